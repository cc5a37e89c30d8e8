//! The authorizer: expressions ask what a user may do.

use std::fmt;
use std::sync::Arc;

use mizzen_api::names;

use super::{Call, Cost, Declarations, Opaque, Result, name};
use crate::error::EvalError;
use crate::value::Value;

/// A check is made for as much as a third of what an expression may cost.
const CHECK: Cost = Cost::Fixed(350_000);

/// Who answers what may be done; the server does.
pub trait Authorizer: Sync {
    /// The user of the request may do this, or the service account that is named.
    fn check(&self, check: &Check) -> Decision;
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A path outside of the API's resources.
    Path {
        /// Who, if not the user of the request: namespace and name of a service account.
        service_account: Option<(String, String)>,
        /// The path.
        path: String,
        /// The method, in lower case.
        verb: String,
    },
    /// A resource.
    Resource {
        /// Who, if not the user of the request: namespace and name of a service account.
        service_account: Option<(String, String)>,
        /// The resource.
        resource: ResourceCheck,
        /// The verb.
        verb: String,
    },
}

/// A resource that is asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceCheck {
    /// API group.
    pub group: String,
    /// Plural.
    pub resource: String,
    /// Sub-resource, or empty.
    pub subresource: String,
    /// Namespace, or empty for all.
    pub namespace: String,
    /// Name, or empty for all.
    pub name: String,
    /// Selector of fields, as it was given.
    pub field_selector: String,
    /// Selector of labels, as it was given.
    pub label_selector: String,
}

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// It may be done.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong while it was decided, or empty.
    pub error: String,
}

/// The authorizer, and how much of a question there is already.
#[derive(Clone)]
pub struct Authorizing<'a> {
    authorizer: &'a dyn Authorizer,
    service_account: Option<Arc<(String, String)>>,
    asked: Asked,
}

#[derive(Debug, Clone, PartialEq)]
enum Asked {
    Nothing,
    Path(Arc<str>),
    Group(Arc<str>),
    Resource(Arc<ResourceCheck>),
    Decided(Arc<Decision>),
}

impl fmt::Debug for Authorizing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authorizing").field(&self.asked).finish()
    }
}

impl PartialEq for Authorizing<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.asked == other.asked && self.service_account == other.service_account
    }
}

impl<'a> Authorizing<'a> {
    pub(super) fn type_name(&self) -> &'static str {
        match self.asked {
            Asked::Nothing => name::AUTHORIZER,
            Asked::Path(_) => name::PATH_CHECK,
            Asked::Group(_) => name::GROUP_CHECK,
            Asked::Resource(_) => name::RESOURCE_CHECK,
            Asked::Decided(_) => name::DECISION,
        }
    }

    fn with(&self, asked: Asked) -> Value<'a> {
        Value::Opaque(Opaque::Authorizing(Self { asked, ..self.clone() }))
    }

    fn resource(&self, change: impl FnOnce(&mut ResourceCheck)) -> Result<Value<'a>> {
        let Asked::Resource(resource) = &self.asked else { return Err(EvalError::NoSuchOverload) };
        let mut resource = (**resource).clone();
        change(&mut resource);
        Ok(self.with(Asked::Resource(Arc::new(resource))))
    }
}

impl<'a> Value<'a> {
    /// The variable `authorizer`.
    pub fn authorizer(authorizer: &'a dyn Authorizer) -> Self {
        let asked = Authorizing { authorizer, service_account: None, asked: Asked::Nothing };
        Self::Opaque(Opaque::Authorizing(asked))
    }

    /// The variable `authorizer.requestResource`.
    pub fn authorizer_of(authorizer: &'a dyn Authorizer, resource: ResourceCheck) -> Self {
        let asked = Asked::Resource(Arc::new(resource));
        Self::Opaque(Opaque::Authorizing(Authorizing { authorizer, service_account: None, asked }))
    }
}

pub(super) fn declare(table: &mut Declarations) {
    table.add(".path(Authorizer, string) -> PathCheck", Cost::One, path);
    table.add(".group(Authorizer, string) -> GroupCheck", Cost::One, group);
    table.add(".serviceAccount(Authorizer, string, string) -> Authorizer", Cost::One, service_account);
    table.add(".resource(GroupCheck, string) -> ResourceCheck", Cost::One, resource);
    table.add(".subresource(ResourceCheck, string) -> ResourceCheck", Cost::One, |_, args| {
        refine(args, |check, text| check.subresource = text)
    });
    table.add(".namespace(ResourceCheck, string) -> ResourceCheck", Cost::One, |_, args| {
        refine(args, |check, text| check.namespace = text)
    });
    table.add(".name(ResourceCheck, string) -> ResourceCheck", Cost::One, |_, args| {
        refine(args, |check, text| check.name = text)
    });
    table.add(".fieldSelector(ResourceCheck, string) -> ResourceCheck", Cost::Selector, |_, args| {
        refine(args, |check, text| check.field_selector = text)
    });
    table.add(".labelSelector(ResourceCheck, string) -> ResourceCheck", Cost::Selector, |_, args| {
        refine(args, |check, text| check.label_selector = text)
    });
    table.add(".check(PathCheck, string) -> Decision", CHECK, check);
    table.add(".check(ResourceCheck, string) -> Decision", CHECK, check);
    table.add(".allowed(Decision) -> bool", Cost::One, |_, args| decision(args, |of| Value::Bool(of.allowed)));
    table.add(".reason(Decision) -> string", Cost::One, |_, args| decision(args, |of| Value::text(&*of.reason)));
    table.add(".error(Decision) -> string", Cost::One, |_, args| decision(args, |of| Value::text(&*of.error)));
    table
        .add(".errored(Decision) -> bool", Cost::One, |_, args| decision(args, |of| Value::Bool(!of.error.is_empty())));
}

fn asked<'v, 'a>(args: &'v [Value<'a>]) -> Result<(&'v Authorizing<'a>, &'v str)> {
    match args {
        [Value::Opaque(Opaque::Authorizing(asked)), Value::String(text), ..] => Ok((asked, text)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn path<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match asked(args)? {
        (_, path) if path.trim().is_empty() => Err(EvalError::function("path must not be empty")),
        (asked, path) => Ok(asked.with(Asked::Path(path.into()))),
    }
}

fn group<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (asked, group) = asked(args)?;
    Ok(asked.with(Asked::Group(group.into())))
}

fn service_account<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [Value::Opaque(Opaque::Authorizing(asked)), Value::String(namespace), Value::String(name)] = args else {
        return Err(EvalError::NoSuchOverload);
    };
    if !names::dns1123_subdomain(name).is_empty() {
        return Err(EvalError::function("Invalid service account name"));
    }
    if !names::dns1123_label(namespace).is_empty() {
        return Err(EvalError::function("Invalid service account namespace"));
    }
    let service_account = Some(Arc::new((namespace.to_string(), name.to_string())));
    Ok(Value::Opaque(Opaque::Authorizing(Authorizing { service_account, ..asked.clone() })))
}

fn resource<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (asked, resource) = asked(args)?;
    let Asked::Group(group) = &asked.asked else { return Err(EvalError::NoSuchOverload) };
    if resource.trim().is_empty() {
        return Err(EvalError::function("resource must not be empty"));
    }
    let check = ResourceCheck { group: group.to_string(), resource: resource.to_owned(), ..Default::default() };
    Ok(asked.with(Asked::Resource(Arc::new(check))))
}

fn refine<'a>(args: &[Value<'a>], set: impl FnOnce(&mut ResourceCheck, String)) -> Result<Value<'a>> {
    let (asked, text) = asked(args)?;
    asked.resource(|check| set(check, text.to_owned()))
}

fn check<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (asked, verb) = asked(args)?;
    let (service_account, verb) = (asked.service_account.as_deref().cloned(), verb.to_owned());
    let check = match &asked.asked {
        Asked::Path(path) => Check::Path { service_account, path: path.to_string(), verb },
        Asked::Resource(resource) => Check::Resource { service_account, resource: (**resource).clone(), verb },
        _ => return Err(EvalError::NoSuchOverload),
    };
    Ok(asked.with(Asked::Decided(Arc::new(asked.authorizer.check(&check)))))
}

fn decision<'a>(args: &[Value<'a>], of: impl FnOnce(&Decision) -> Value<'a>) -> Result<Value<'a>> {
    match args {
        [Value::Opaque(Opaque::Authorizing(Authorizing { asked: Asked::Decided(decision), .. }))] => Ok(of(decision)),
        _ => Err(EvalError::NoSuchOverload),
    }
}
