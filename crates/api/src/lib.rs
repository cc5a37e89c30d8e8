//! The kinds of the Kubernetes v1.36 API as data and pure functions.
//!
//! Floor 0 of the house: no I/O, no clock, no async. Everything that depends on the time of day takes it as an argument.
//!
//! * [`kind`]: one descriptor per resource, with the rules that generic code needs.
//! * [`kinds`]: the table of those descriptors, for all built-in resources.
//! * [`key`]: where an object lives in the store.
//! * [`status`]: the errors of the API, as clients see them.
//! * [`field`]: validation errors with their paths.
//! * [`crd`]: what a CustomResourceDefinition makes of the API.
//! * [`rules`]: what each kind does differently from the plain case.
//! * [`decode`]: from the bytes of a request to a well-formed object.
//! * [`protobuf`]: objects as protobuf, both ways.
//! * [`schema`]: the types of the kinds: fields, list types, merge keys; checks objects against them.
//! * [`names`], [`selector`]: forms of names and labels, and how objects are selected by them.
//! * [`patch`]: JSON patch, merge patch, strategic merge patch.
//! * [`apply`]: server-side apply, and who owns which fields.
//! * [`discovery`], [`openapi`]: the documents that say what is served, and how it is typed.
//! * [`quantity`], [`time`]: amounts and points in time.
//! * [`quota`]: how much objects use of what quotas limit.
//! * [`pod`], [`volumes`]: facts about pods, claims and volumes that all parts must agree on.
//! * [`names`], [`int_or_string`]: the forms of names, and numbers that may be percentages.
//! * [`cron`]: schedules of CronJobs.
//! * [`signing_request`]: the certificate requests inside CertificateSigningRequests.
//! * [`duration`]: spans of time as kubectl prints them.
#![forbid(unsafe_code)]

pub mod apply;
pub mod crd;
pub mod cron;
pub mod decode;
pub mod discovery;
pub mod duration;
pub mod field;
pub mod int_or_string;
pub mod key;
pub mod kind;
pub mod kinds;
pub mod names;
pub mod node_affinity;
pub mod openapi;
pub mod patch;
pub mod pod;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod rules;
pub mod schema;
pub mod selector;
pub mod signing_request;
pub mod status;
pub mod time;
pub mod volumes;
