//! The metrics of a spec: where each is read, and how many pods its values ask for (metrics.k8s.io/v1beta1,
//! custom.metrics.k8s.io/v1beta2, external.metrics.k8s.io/v1beta1).

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, MetricIdentifier, MetricSpec, MetricStatus, MetricTarget,
};
use k8s_openapi::api::core::v1::{Container, Pod};
use mizzen_api::kinds::kinds;
use mizzen_api::quantity::{Format, Quantity};
use mizzen_api::selector::LabelSelector;
use serde_json::{Value, json};

use super::replicas::{self, Groups, Sample, Tolerance};
use crate::plan::{Answer, Read};

/// Seconds that a value without a window stands for.
const WINDOW_SECONDS: i64 = 60;

/// What proposals are made from.
pub struct World {
    /// Pods of the target.
    pub pods: Vec<Arc<Pod>>,
    /// How many are wanted now.
    pub current: i64,
    /// The time.
    pub now: Timestamp,
    /// What is ignored.
    pub tolerance: Tolerance,
}

/// What one metric asks for.
#[derive(Debug)]
pub struct Proposal {
    /// So many pods.
    pub replicas: i64,
    /// The metric, for people.
    pub name: String,
    /// What was measured.
    pub status: MetricStatus,
}

/// Why a metric says nothing.
#[derive(Debug)]
pub struct Failure {
    /// `FailedGetResourceMetric`.
    pub reason: &'static str,
    /// In words.
    pub message: String,
}

/// The metrics of a spec.
pub fn specs(autoscaler: &HorizontalPodAutoscaler) -> &[MetricSpec] {
    autoscaler.spec.metrics.as_deref().unwrap_or_default()
}

/// Where a metric of the pods with `selector` is read.
pub fn read(spec: &MetricSpec, namespace: &str, selector: &str) -> Read {
    let custom = format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}");
    if let Some(pods) = &spec.pods {
        let mut query = vec![("labelSelector", selector.to_string())];
        query.extend(metric_selector(&pods.metric, "metricLabelSelector"));
        return Read { path: format!("{custom}/pods/*/{}", pods.metric.name), query };
    }
    if let Some(object) = &spec.object {
        let of = &object.described_object;
        let version = of.api_version.as_deref().unwrap_or("v1");
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        // Who serves metrics of kinds that we do not know may go by their plural names.
        let plural = kinds().by_kind(group, version, &of.kind).map(|k| k.plural.to_string());
        let plural = plural.unwrap_or_else(|| format!("{}s", of.kind.to_lowercase()));
        let resource = if group.is_empty() { plural } else { format!("{plural}.{group}") };
        let query = metric_selector(&object.metric, "metricLabelSelector").into_iter().collect();
        return Read { path: format!("{custom}/{resource}/{}/{}", of.name, object.metric.name), query };
    }
    if let Some(external) = &spec.external {
        let query = metric_selector(&external.metric, "labelSelector").into_iter().collect();
        let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{}", external.metric.name);
        return Read { path, query };
    }
    Read {
        path: format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"),
        query: vec![("labelSelector", selector.to_string())],
    }
}

fn metric_selector(metric: &MetricIdentifier, name: &'static str) -> Option<(&'static str, String)> {
    let selector = LabelSelector::from_typed(metric.selector.as_ref()).ok()?;
    metric.selector.as_ref().map(|_| (name, selector.to_string()))
}

/// What a metric asks for.
///
/// # Errors
/// That it could not be read, or says nothing.
pub fn propose(spec: &MetricSpec, answer: &Answer, world: &World) -> Result<Proposal, Failure> {
    if let Some(source) = &spec.resource {
        let fail = |message: String| Failure { reason: "FailedGetResourceMetric", message };
        let found =
            answer.as_ref().map_err(|e| fail(format!("unable to get metrics for resource {}: {e}", source.name)));
        let samples = resource_samples(found?, &source.name, None);
        let asked = resource(world, &source.name, None, &source.target, &samples).map_err(fail)?;
        let status = json!({"type": "Resource", "resource": {"name": source.name, "current": asked.current}});
        return Ok(asked.proposal(asked.resource_name(&source.name, None), status));
    }
    if let Some(source) = &spec.container_resource {
        let fail = |message: String| Failure { reason: "FailedGetContainerResourceMetric", message };
        let found =
            answer.as_ref().map_err(|e| fail(format!("unable to get metrics for resource {}: {e}", source.name)));
        let samples = resource_samples(found?, &source.name, Some(&source.container));
        let asked = resource(world, &source.name, Some(&source.container), &source.target, &samples).map_err(fail)?;
        let status = json!({"type": "ContainerResource", "containerResource":
            {"name": source.name, "container": source.container, "current": asked.current}});
        return Ok(asked.proposal(asked.resource_name(&source.name, Some(&source.container)), status));
    }
    if let Some(source) = &spec.pods {
        let fail = |message: String| Failure { reason: "FailedGetPodsMetric", message };
        let found = answer.as_ref().map_err(|e| fail(format!("unable to get metric {}: {e}", source.metric.name)))?;
        let asked = average_of_pods(world, &source.target, &custom_samples(found)).map_err(fail)?;
        let status = json!({"type": "Pods", "pods": {"metric": source.metric, "current": asked.current}});
        return Ok(asked.proposal(format!("pods metric {}", source.metric.name), status));
    }
    if let Some(source) = &spec.object {
        let fail = |message: String| Failure { reason: "FailedGetObjectMetric", message };
        let found = answer.as_ref().map_err(|e| fail(format!("unable to get metric {}: {e}", source.metric.name)))?;
        let asked = whole(world, &source.target, sum(found)).map_err(fail)?;
        let status = json!({"type": "Object", "object":
            {"metric": source.metric, "describedObject": source.described_object, "current": asked.current}});
        return Ok(asked.proposal(format!("{} metric {}", source.described_object.kind, source.metric.name), status));
    }
    if let Some(source) = &spec.external {
        let fail = |message: String| Failure { reason: "FailedGetExternalMetric", message };
        let found =
            answer.as_ref().map_err(|e| fail(format!("unable to get external metric {}: {e}", source.metric.name)))?;
        let asked = whole(world, &source.target, sum(found)).map_err(fail)?;
        let status = json!({"type": "External", "external": {"metric": source.metric, "current": asked.current}});
        return Ok(asked.proposal(format!("external metric {}", source.metric.name), status));
    }
    Err(Failure { reason: "InvalidMetricSourceType", message: format!("unknown metric source type {:?}", spec.type_) })
}

/// A number of pods with the value it comes from.
struct Asked {
    replicas: i64,
    /// `MetricValueStatus`.
    current: Value,
    /// It is a share of what the pods request.
    utilization: bool,
}

impl Asked {
    fn proposal(&self, name: String, status: Value) -> Proposal {
        // The shape is that of the type; were it not, nothing would be shown.
        Proposal { replicas: self.replicas, name, status: serde_json::from_value(status).unwrap_or_default() }
    }

    fn resource_name(&self, resource: &str, container: Option<&str>) -> String {
        let what = if self.utilization { "resource utilization (percentage of request)" } else { "resource" };
        match container {
            None => format!("{resource} {what}"),
            Some(container) => format!("{resource} container {what} of {container}"),
        }
    }
}

fn text(millis: i64) -> String {
    if millis % 1000 == 0 {
        Quantity::from_units(millis / 1000, Format::DecimalSi).to_string()
    } else {
        Quantity::from_millis(millis).to_string()
    }
}

fn millis(value: &Value) -> Option<i64> {
    Some(value.as_str()?.parse::<Quantity>().ok()?.millis())
}

fn target_millis(target: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>) -> Option<i64> {
    Some(target?.0.parse::<Quantity>().ok()?.millis()).filter(|n| *n > 0)
}

/// The usage of each pod, or of one of its containers.
fn resource_samples(list: &Value, resource: &str, container: Option<&str>) -> BTreeMap<String, Sample> {
    let mut samples = BTreeMap::new();
    for item in list["items"].as_array().into_iter().flatten() {
        let Some(name) = item["metadata"]["name"].as_str() else { continue };
        let containers = item["containers"].as_array().into_iter().flatten();
        let meant = containers.filter(|c| container.is_none_or(|wanted| c["name"] == wanted));
        let values: Option<Vec<i64>> = meant.map(|c| millis(&c["usage"][resource])).collect();
        // A pod with a container that was not measured was not measured.
        let Some(values) = values.filter(|values| !values.is_empty()) else { continue };
        samples.insert(name.to_string(), sample(item, values.into_iter().fold(0, i64::saturating_add)));
    }
    samples
}

fn sample(item: &Value, value: i64) -> Sample {
    let at = item["timestamp"].as_str().and_then(|t| t.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    let window = item["window"].as_str().and_then(|w| w.parse::<jiff::SignedDuration>().ok()).map(|w| w.as_secs());
    let window = window.or_else(|| item["windowSeconds"].as_i64()).unwrap_or(WINDOW_SECONDS);
    Sample { value, at, window }
}

fn custom_samples(list: &Value) -> BTreeMap<String, Sample> {
    let items = list["items"].as_array().into_iter().flatten();
    let read = |item: &Value| {
        let name = item["describedObject"]["name"].as_str()?;
        Some((name.to_string(), sample(item, millis(&item["value"])?)))
    };
    items.filter_map(read).collect()
}

/// The sum of all values; `None` if there are none.
fn sum(list: &Value) -> Option<i64> {
    let values: Vec<i64> = list["items"].as_array()?.iter().filter_map(|item| millis(&item["value"])).collect();
    (!values.is_empty()).then(|| values.into_iter().fold(0, i64::saturating_add))
}

fn resource(
    world: &World,
    resource: &str,
    container: Option<&str>,
    target: &MetricTarget,
    samples: &BTreeMap<String, Sample>,
) -> Result<Asked, String> {
    let Some(percent) = target.average_utilization.map(i64::from) else {
        return average(world, target, samples, resource == "cpu");
    };
    let groups = groups(world, samples, resource == "cpu")?;
    let requests = requests(world, &groups, resource, container)?;
    let requested = |name: &str| requests.get(name).copied().unwrap_or(0);
    let ratio = |values: &BTreeMap<String, i64>| {
        let total: i64 = values.keys().map(|name| requested(name)).fold(0, i64::saturating_add);
        let used: i64 = values.values().copied().fold(0, i64::saturating_add);
        used as f64 * 100.0 / total.max(1) as f64 / percent as f64
    };
    // A pod that is not seen is taken to use all it may, or all it asked for.
    let expected = |name: &str| requested(name).saturating_mul(percent.max(100)) / 100;
    let replicas = replicas::from_pods(world.current, &groups, ratio, expected, world.tolerance);
    let used: i64 = groups.measured.values().copied().fold(0, i64::saturating_add);
    let per_pod = used / i64::try_from(groups.measured.len()).unwrap_or(1).max(1);
    let utilization = (ratio(&groups.measured) * percent as f64).round() as i64;
    let current = json!({"averageUtilization": utilization, "averageValue": text(per_pod)});
    Ok(Asked { replicas, current, utilization: true })
}

fn groups(world: &World, samples: &BTreeMap<String, Sample>, is_cpu: bool) -> Result<Groups, String> {
    let groups = Groups::of(world.pods.iter().map(|p| &**p), samples, is_cpu, world.now);
    if groups.measured.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    Ok(groups)
}

/// What each pod requests of a resource, in thousandths.
fn requests(
    world: &World,
    groups: &Groups,
    resource: &str,
    container: Option<&str>,
) -> Result<BTreeMap<String, i64>, String> {
    let mut requests = BTreeMap::new();
    for pod in &world.pods {
        let name = pod.metadata.name.clone().unwrap_or_default();
        if !groups.measured.contains_key(&name) && !groups.missing.contains(&name) && !groups.unready.contains(&name) {
            continue;
        }
        let Some(spec) = &pod.spec else { continue };
        let sidecars = spec.init_containers.iter().flatten().filter(|c| mizzen_api::pod::is_sidecar(c));
        let all = spec.containers.iter().chain(sidecars);
        let mut total: i64 = 0;
        for one in all.filter(|c| container.is_none_or(|wanted| c.name == wanted)) {
            let asked = request(one, resource)
                .ok_or_else(|| format!("missing request for {resource} in container {} of Pod {name}", one.name))?;
            total = total.saturating_add(asked);
        }
        requests.insert(name, total);
    }
    Ok(requests)
}

fn request(container: &Container, resource: &str) -> Option<i64> {
    let requests = container.resources.as_ref()?.requests.as_ref()?;
    Some(requests.get(resource)?.0.parse::<Quantity>().ok()?.millis())
}

fn average_of_pods(world: &World, target: &MetricTarget, samples: &BTreeMap<String, Sample>) -> Result<Asked, String> {
    average(world, target, samples, false)
}

/// Each pod should have so much.
fn average(
    world: &World,
    target: &MetricTarget,
    samples: &BTreeMap<String, Sample>,
    is_cpu: bool,
) -> Result<Asked, String> {
    let wanted = target_millis(target.average_value.as_ref()).ok_or("the target has no averageValue")?;
    let groups = groups(world, samples, is_cpu)?;
    let mean = |values: &BTreeMap<String, i64>| {
        values.values().copied().fold(0, i64::saturating_add) / i64::try_from(values.len()).unwrap_or(1).max(1)
    };
    let ratio = |values: &BTreeMap<String, i64>| mean(values) as f64 / wanted as f64;
    let replicas = replicas::from_pods(world.current, &groups, ratio, |_| wanted, world.tolerance);
    Ok(Asked { replicas, current: json!({"averageValue": text(mean(&groups.measured))}), utilization: false })
}

/// A value of something else: as a whole, or shared by all pods.
fn whole(world: &World, target: &MetricTarget, value: Option<i64>) -> Result<Asked, String> {
    let value = value.ok_or("no metrics returned")?;
    let is_ready = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_none() && mizzen_api::pod::is_ready(pod);
    if let Some(wanted) = target_millis(target.value.as_ref()) {
        let ready = i64::try_from(world.pods.iter().filter(is_ready).count()).unwrap_or(i64::MAX);
        let ratio = value as f64 / wanted as f64;
        let replicas = replicas::from_ratio(world.current, ready, ratio, world.tolerance);
        return Ok(Asked { replicas, current: json!({"value": text(value)}), utilization: false });
    }
    let wanted = target_millis(target.average_value.as_ref()).ok_or("the target has no value")?;
    let replicas = replicas::from_average(world.current, value, wanted, world.tolerance);
    let current = json!({"averageValue": text(value / world.current.max(1))});
    Ok(Asked { replicas, current, utilization: false })
}
