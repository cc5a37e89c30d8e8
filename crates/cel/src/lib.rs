//! The Common Expression Language as Kubernetes v1.36 has it.
//!
//! [`compile`] parses an expression, checks its types against the variables of an [`Env`], and estimates its cost from
//! the sizes that their schemas allow. [`Program::eval`] evaluates it over JSON, which is borrowed and not converted,
//! and counts cost as Kubernetes does; an expression cannot take more than its [`Budget`], whatever it is and whatever
//! it is given. Messages are those that clients of Kubernetes know.
//!
//! ```
//! use mizzen_cel::{Activation, Budget, Decl, Env, RUNTIME_BUDGET, Slot, Type, Value, compile};
//!
//! let schema = serde_json::json!({"type": "object", "properties": {"replicas": {"type": "integer"}}});
//! let decl = Decl::from_schema(&schema, "selfType", false).unwrap();
//! let program = compile("self.replicas <= 5", &Env::new().with("self", decl.clone())).unwrap();
//! assert_eq!(*program.ty(), Type::Bool);
//!
//! let object = serde_json::json!({"replicas": 3});
//! let mut activation = Activation::new(vec![Slot::Value(Value::from_json(&object, Some(&decl)).unwrap())]);
//! let value = program.eval(&mut activation, &mut Budget::new(RUNTIME_BUDGET)).unwrap();
//! assert_eq!(value.as_bool(), Some(true));
//! ```
//!
//! The libraries are those of a v1.36 kube-apiserver: the standard functions, two-variable comprehensions, optionals,
//! strings, lists, sets, regular expressions, URLs, quantities, IP addresses and networks, formats, semantic versions,
//! the authorizer (a trait that the server implements), and what mutating policies make objects and patches with.

pub mod admission;
mod builtin;
mod charge;
mod check;
mod cost;
mod env;
mod error;
mod eval;
mod library;
mod meter;
mod node;
mod program;
mod schema;
mod syntax;
mod types;
mod value;

pub use cost::Range;
pub use env::{Env, Objects};
pub use error::{CompileError, EvalError};
pub use eval::{Activation, Slot};
pub use library::{Authorizer, Check, Decision, Opaque, ResourceCheck};
pub use meter::{MATCH_CONDITIONS_BUDGET, PER_CALL_LIMIT, RUNTIME_BUDGET};
pub use program::{Budget, Program, compile};
pub use schema::{Decl, Field, ListKind, ObjectType, REQUEST_BYTES_MAX, Shape, escape};
pub use types::Type;
pub use value::{List, Map, NotJson, Str, Value};
