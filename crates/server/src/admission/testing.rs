//! How plugins are tested: a world, a request, and what comes of it. The only place that builds requests.

use jiff::Timestamp;
use mizzen_api::kinds::kinds;
use mizzen_store::Snapshot;
use serde_json::Value;

use super::{Admitted, Operation, Options, Request, mutate, validate};
pub use crate::auth::fixture::object;
use crate::auth::{Authorizer, Identity};

/// One request to a world of objects.
pub struct Case {
    snapshot: Snapshot,
    operation: Operation,
    resource: (&'static str, &'static str),
    subresource: String,
    namespace: String,
    name: String,
    identity: Identity,
    old: Option<Value>,
}

impl Case {
    pub fn new(world: Vec<Value>) -> Self {
        Self {
            snapshot: crate::auth::fixture::snapshot(world),
            operation: Operation::Create,
            resource: ("", ""),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            identity: Identity::part("someone"),
            old: None,
        }
    }

    /// `create|update|delete`, `resource[.group][/subresource]`, `[namespace/]name`.
    pub fn of(mut self, operation: &str, resource: &'static str, at: &str) -> Self {
        self.operation = match operation {
            "create" => Operation::Create,
            "update" => Operation::Update,
            "delete" => Operation::Delete,
            _ => panic!("{operation}"),
        };
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        let (namespace, name) = at.split_once('/').unwrap_or(("", at));
        self.resource = (group, plural);
        (self.subresource, self.namespace, self.name) = (subresource.into(), namespace.into(), name.into());
        self
    }

    /// Who asks.
    pub fn by(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// What is stored at the moment.
    pub fn was(mut self, old: Value) -> Self {
        self.old = Some(old);
        self
    }

    /// Both phases.
    pub fn run(&self, mut object: Value) -> Result<(Value, Admitted), String> {
        if self.operation == Operation::Delete {
            object = Value::Null;
        }
        let old = self.old.as_ref();
        self.with_request(|request| {
            let mut admitted = mutate(request, &mut object, old).map_err(|error| error.message)?;
            let checked = validate(request, &object, old).map_err(|error| error.message)?;
            admitted.warnings.extend(checked.warnings);
            admitted.writes.extend(checked.writes);
            Ok((object, admitted))
        })
    }

    /// The request as plugins see it.
    pub fn with_request<T>(&self, then: impl FnOnce(&Request<'_>) -> T) -> T {
        let kind = kinds().storage(self.resource.0, self.resource.1).unwrap();
        then(&Request {
            snapshot: &self.snapshot,
            kind,
            subresource: &self.subresource,
            operation: self.operation,
            namespace: &self.namespace,
            name: &self.name,
            identity: &self.identity,
            authorizer: &Authorizer::new(),
            dry_run: false,
            now: Timestamp::from_second(1_790_000_000).unwrap(),
            suffix: &|| "xxxxx".into(),
            definition: None,
            options: Options::None,
            outside: None,
        })
    }

    /// The object after admission, which must not refuse it.
    pub fn admitted(&self, object: Value) -> Value {
        self.run(object).unwrap().0
    }

    /// It is refused with this message; `None`: it is not.
    pub fn refused(&self, object: Value, message: Option<&str>) {
        let result = self.run(object.clone());
        assert_eq!(result.as_ref().err().map(String::as_str), message, "{:?} {} {object}", self.operation, self.name);
    }
}
