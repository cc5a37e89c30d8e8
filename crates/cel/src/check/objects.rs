//! Objects that an expression makes.

use std::sync::{Arc, LazyLock};

use super::{Checker, error};
use crate::env::Objects;
use crate::node::{FieldNode, Node, NodeKind};
use crate::schema::{Decl, ObjectType};
use crate::syntax::ast::FieldInit;
use crate::types::Type;

/// One operation of a JSON patch.
static JSON_PATCH: LazyLock<Arc<ObjectType>> = LazyLock::new(|| {
    let string = || Decl::of(Type::String);
    let fields = [("op", string()), ("path", string()), ("from", string()), ("value", Decl::of(Type::Dyn))];
    ObjectType::new("JSONPatch", fields)
});

impl Checker<'_> {
    /// The type of objects of this name.
    fn object_type(&self, name: &str) -> Option<Arc<ObjectType>> {
        match self.env.objects() {
            Objects::Mutation if name == "JSONPatch" => Some(JSON_PATCH.clone()),
            Objects::Mutation if name == "Object" || name.starts_with("Object.") => Some(ObjectType::open(name)),
            _ => None,
        }
    }

    pub(super) fn object(&mut self, at: u32, name: &str, inits: &[FieldInit]) -> Node {
        let Some(ty) = self.object_type(name) else {
            if self.global(name).is_some() {
                self.problem(at, format!("'{name}' is not a type"));
                return error();
            }
            return self.undeclared(at, name);
        };
        let mut fields = Vec::with_capacity(inits.len());
        for init in inits {
            let value = self.check(&init.value);
            let wanted = match ty.fields.get(&init.name) {
                Some(field) => field.decl.ty.clone(),
                None if ty.open => Type::Dyn,
                None => {
                    self.problem(init.at, format!("undefined field '{}'", init.name));
                    Type::Error
                }
            };
            let found = if init.optional { self.unwrapped(init.value.at, &value.ty) } else { value.ty.clone() };
            if !self.known.assign(&wanted, &found) {
                let found = self.known.apply(&found, false);
                let message =
                    format!("expected type of field '{}' is '{wanted}' but provided type is '{found}'", init.name);
                self.problem(init.at, message);
            }
            fields.push(FieldNode { name: init.name.clone(), value, optional: init.optional });
        }
        Node { ty: Type::Object(ty.clone()), kind: NodeKind::Struct { ty, fields } }
    }
}
