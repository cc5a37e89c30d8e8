//! The variables that expressions of admission have in Kubernetes, in a fixed order.

use std::sync::{Arc, LazyLock};

use crate::env::Env;
use crate::schema::{Decl, ObjectType};
use crate::types::Type;

/// The place of `object`.
pub const OBJECT: usize = 0;
/// The place of `oldObject`.
pub const OLD_OBJECT: usize = 1;
/// The place of `request`.
pub const REQUEST: usize = 2;
/// The place of `authorizer`.
pub const AUTHORIZER: usize = 3;
/// The place of `authorizer.requestResource`.
pub const REQUEST_RESOURCE: usize = 4;
/// The place of `namespaceObject`.
pub const NAMESPACE: usize = 5;
/// The place of `params`.
pub const PARAMS: usize = 6;
/// The first place behind all of these.
pub const VARIABLES: usize = 7;

/// What the variables of admission are.
#[derive(Debug, Clone)]
pub struct Variables {
    /// The type of `object` and `oldObject`.
    pub object: Arc<Decl>,
    /// The type of `params`; none: it cannot be named.
    pub params: Option<Arc<Decl>>,
    /// The authorizer can be named.
    pub authorizer: bool,
}

impl Variables {
    /// Objects of any type.
    pub fn untyped(params: bool, authorizer: bool) -> Self {
        let any = Decl::of(Type::Dyn);
        Self { params: params.then(|| any.clone()), object: any, authorizer }
    }

    /// The environment. What cannot be named has its place all the same, without a name.
    pub fn environment(&self) -> Env {
        let named = |name: &'static str, is: bool| if is { name } else { "" };
        let params = self.params.clone().unwrap_or_else(|| Decl::of(Type::Dyn));
        Env::new()
            .with("object", self.object.clone())
            .with("oldObject", self.object.clone())
            .with("request", REQUEST_TYPE.clone())
            .with(named("authorizer", self.authorizer), Decl::of(Type::authorizer()))
            .with(named("authorizer.requestResource", self.authorizer), Decl::of(Type::resource_check()))
            .with("namespaceObject", NAMESPACE_TYPE.clone())
            .with(named("params", self.params.is_some()), params)
    }
}

static REQUEST_TYPE: LazyLock<Arc<Decl>> = LazyLock::new(request_type);
static NAMESPACE_TYPE: LazyLock<Arc<Decl>> = LazyLock::new(namespace_type);

/// The declared type of `namespaceObject`.
pub fn namespace_decl() -> &'static Decl {
    &NAMESPACE_TYPE
}

fn object(name: &str, fields: Vec<(&'static str, Arc<Decl>)>) -> Arc<Decl> {
    Decl::of(Type::Object(ObjectType::new(format!("kubernetes.{name}"), fields)))
}

fn string() -> Arc<Decl> {
    Decl::of(Type::String)
}

fn strings() -> Arc<Decl> {
    Decl::of(Type::list(Type::String))
}

fn request_type() -> Arc<Decl> {
    let kind = || object("GroupVersionKind", vec![("group", string()), ("version", string()), ("kind", string())]);
    let resource =
        || object("GroupVersionResource", vec![("group", string()), ("version", string()), ("resource", string())]);
    let user = vec![
        ("username", string()),
        ("uid", string()),
        ("groups", strings()),
        ("extra", Decl::of(Type::map(Type::String, Type::list(Type::String)))),
    ];
    let fields = vec![
        ("kind", kind()),
        ("resource", resource()),
        ("subResource", string()),
        ("requestKind", kind()),
        ("requestResource", resource()),
        ("requestSubResource", string()),
        ("name", string()),
        ("namespace", string()),
        ("operation", string()),
        ("userInfo", object("UserInfo", user)),
        ("dryRun", Decl::of(Type::Bool)),
        ("options", Decl::of(Type::Dyn)),
    ];
    object("AdmissionRequest", fields)
}

fn namespace_type() -> Arc<Decl> {
    let map = || Decl::of(Type::map(Type::String, Type::String));
    let time = || Decl::of(Type::Timestamp);
    let int = || Decl::of(Type::Int);
    let condition = vec![
        ("status", string()),
        ("type", string()),
        ("lastTransitionTime", time()),
        ("message", string()),
        ("reason", string()),
    ];
    let conditions = Decl::of(Type::list(object("NamespaceCondition", condition).ty.clone()));
    let metadata = vec![
        ("name", string()),
        ("generateName", string()),
        ("namespace", string()),
        ("labels", map()),
        ("annotations", map()),
        ("UID", string()),
        ("creationTimestamp", time()),
        ("deletionGracePeriodSeconds", int()),
        ("deletionTimestamp", time()),
        ("generation", int()),
        ("resourceVersion", string()),
        ("finalizers", strings()),
    ];
    let fields = vec![
        ("metadata", object("NamespaceMetadata", metadata)),
        ("spec", object("NamespaceSpec", vec![("finalizers", strings())])),
        ("status", object("NamespaceStatus", vec![("conditions", conditions), ("phase", string())])),
    ];
    object("Namespace", fields)
}
