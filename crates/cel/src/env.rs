//! What an expression may name.

use std::sync::Arc;

use crate::schema::Decl;

/// The variables of an expression, in the order in which values are given to it, and the objects it may make.
#[derive(Debug, Clone, Default)]
pub struct Env {
    variables: Vec<Variable>,
    objects: Objects,
}

#[derive(Debug, Clone)]
struct Variable {
    /// May have dots: `variables.replicas`.
    name: String,
    decl: Arc<Decl>,
}

/// Objects that an expression may make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Objects {
    /// None.
    #[default]
    None,
    /// `Object{…}` with `Object.spec{…}` and so on for parts of a resource, and `JSONPatch{op, path, value, from}`.
    Mutation,
}

impl Env {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more variable.
    pub fn with(mut self, name: impl Into<String>, decl: Arc<Decl>) -> Self {
        self.declare(name, decl);
        self
    }

    /// Adds a variable; its place among the values.
    pub fn declare(&mut self, name: impl Into<String>, decl: Arc<Decl>) -> usize {
        self.variables.push(Variable { name: name.into(), decl });
        self.variables.len() - 1
    }

    /// With objects that may be made.
    pub fn making(mut self, objects: Objects) -> Self {
        self.objects = objects;
        self
    }

    /// The number of variables.
    pub fn len(&self) -> usize {
        self.variables.len()
    }

    /// There are no variables.
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }

    /// The place of a variable.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.variables.iter().rposition(|variable| variable.name == name)
    }

    pub(crate) fn objects(&self) -> Objects {
        self.objects
    }

    pub(crate) fn decl(&self, index: usize) -> &Arc<Decl> {
        &self.variables[index].decl
    }

    /// Variables have names below this one.
    pub(crate) fn is_prefix(&self, name: &str) -> bool {
        let below = |variable: &Variable| variable.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        self.variables.iter().any(below)
    }
}
