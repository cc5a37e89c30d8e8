//! Selectors of devices in DeviceClasses, ResourceClaims and their templates: that their expressions compile.

use std::sync::LazyLock;

use mizzen_api::field::FieldError;
use mizzen_cel::{Decl, Env, ObjectType, Type, compile};
use serde_json::Value;

/// `device`, as expressions see one of a ResourceSlice.
static ENVIRONMENT: LazyLock<Env> = LazyLock::new(|| {
    // Attributes are strings, numbers, flags or versions, amounts are quantities: known when they are looked at.
    let by_domain = || Decl::of(Type::map(Type::String, Type::map(Type::String, Type::Dyn)));
    let fields = vec![
        ("driver", Decl::of(Type::String)),
        ("attributes", by_domain()),
        ("capacity", by_domain()),
        ("allowMultipleAllocations", Decl::of(Type::Bool)),
    ];
    Env::new().with("device", Decl::of(Type::Object(ObjectType::new("kubernetes.DRADevice", fields))))
});

/// All that does not compile. What was so before an update is let pass.
pub(crate) fn check(plural: &str, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if old.is_some_and(|old| old["spec"] == object["spec"]) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    match plural {
        "deviceclasses" => selectors("spec.selectors", &object["spec"]["selectors"], &mut errors),
        "resourceclaims" => requests("spec.devices", &object["spec"]["devices"], &mut errors),
        "resourceclaimtemplates" => requests("spec.spec.devices", &object["spec"]["spec"]["devices"], &mut errors),
        _ => {}
    }
    errors
}

fn requests(at: &str, devices: &Value, errors: &mut Vec<FieldError>) {
    for (i, request) in list(&devices["requests"]).iter().enumerate() {
        let at = format!("{at}.requests[{i}]");
        selectors(&format!("{at}.exactly.selectors"), &request["exactly"]["selectors"], errors);
        for (j, alternative) in list(&request["firstAvailable"]).iter().enumerate() {
            selectors(&format!("{at}.firstAvailable[{j}].selectors"), &alternative["selectors"], errors);
        }
    }
}

fn selectors(at: &str, selectors: &Value, errors: &mut Vec<FieldError>) {
    for (i, selector) in list(selectors).iter().enumerate() {
        // Those that are missing are told of elsewhere.
        let Some(source) = selector["cel"]["expression"].as_str() else { continue };
        let wrong = match compile(source, &ENVIRONMENT) {
            Ok(program) if matches!(program.ty(), Type::Bool | Type::Dyn) => continue,
            Ok(_) => "must evaluate to bool".to_string(),
            Err(error) => format!("compilation failed: {}", error.problems.join("\n")),
        };
        errors.push(FieldError::invalid(format!("{at}[{i}].cel.expression"), source, wrong));
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expressions_about_devices_compile() {
        let class = |expression: &str| json!({"spec": {"selectors": [{"cel": {"expression": expression}}]}});
        for (expression, wrong) in [
            ("device.driver == 'gpu.example.com'", None),
            ("device.attributes['gpu.example.com'].model == 'a100' && 'x' in device.capacity", None),
            ("device.capacity['gpu.example.com'].memory.compareTo(quantity('10Gi')) >= 0", None),
            ("device.driver", Some("must evaluate to bool")),
            ("device.nothing == 1", Some("compilation failed")),
            ("device.", Some("compilation failed")),
        ] {
            let errors = check("deviceclasses", &class(expression), None);
            match wrong {
                None => assert!(errors.is_empty(), "{expression}: {errors:?}"),
                Some(wrong) => assert!(errors[0].message().contains(wrong), "{expression}: {errors:?}"),
            }
        }
        let bad = class("device.");
        assert!(check("deviceclasses", &bad, Some(&bad)).is_empty(), "what is there stays");
        let request = json!({"firstAvailable": [{"selectors": [{"cel": {"expression": "1"}}]}]});
        let template = json!({"spec": {"spec": {"devices": {"requests": [request]}}}});
        let errors = check("resourceclaimtemplates", &template, None);
        assert!(
            format!("{errors:?}").contains("spec.spec.devices.requests[0].firstAvailable[0].selectors[0]"),
            "{errors:?}"
        );
    }
}
