//! The table of pods: what a pod is doing in one word.

use serde_json::Value;

use crate::duration;
use crate::kind::Column;
use crate::rules::cells::{self, NONE, flag, list, number, text, text_or};

/// Columns of Pods.
pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "Containers that are ready, of all that should be."),
    Column::text("Status", "What the containers of this pod are doing."),
    Column::text("Restarts", "How often containers of this pod were restarted, and when the last time."),
    Column::AGE,
    Column::text("IP", "Address of the pod.").wide(),
    Column::text("Node", "Node the pod runs on.").wide(),
    Column::text("Nominated Node", "Node on which room is being made for the pod.").wide(),
    Column::text("Readiness Gates", "Further conditions that hold, of all that must for the pod to be ready.").wide(),
];

/// Columns of PodTemplates.
pub const TEMPLATE_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Containers", "Names of the containers in the template."),
    Column::text("Images", "Images of the containers in the template."),
    Column::text("Pod Labels", "Labels of pods made from the template."),
];

/// The row of a Pod.
pub fn row(pod: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(then) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, duration::human(now.saturating_sub(then)))
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        cells::name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        cells::age(pod, now),
        text_or(&status["podIPs"][0]["ip"], NONE).into(),
        text_or(&spec["nodeName"], NONE).into(),
        text_or(&status["nominatedNodeName"], NONE).into(),
        readiness_gates(pod).into(),
    ]
}

/// The row of a PodTemplate.
pub fn template_row(object: &Value, _now: i64) -> Vec<Value> {
    let [names, images] = cells::containers(&object["template"]["spec"]);
    vec![cells::name(object), names, images, cells::labels(&object["template"]["metadata"]["labels"]).into()]
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(&pod["spec"]["readinessGates"]);
    if gates.is_empty() {
        return NONE.into();
    }
    let open = gates.iter().filter(|gate| cells::has_condition(pod, text(&gate["conditionType"]))).count();
    format!("{open}/{}", gates.len())
}

/// What the containers of a pod add up to.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<i64>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let sidecars = list(&spec["initContainers"]).iter().filter(|c| c["restartPolicy"] == "Always").count();
        let mut summary = Summary {
            ready: 0,
            total: list(&spec["containers"]).len() + sidecars,
            reason: text_or(&status["reason"], text(&status["phase"])).into(),
            restarts: 0,
            last_restart: None,
        };
        if cells::condition(pod, "PodScheduled").is_some_and(|c| c["reason"] == "SchedulingGated") {
            summary.reason = "SchedulingGated".into();
        }
        let sidecar_restarts = summary.start(spec, status);
        if let Some((restarts, last)) = sidecar_restarts {
            (summary.restarts, summary.last_restart) = (restarts, last);
            summary.run(pod);
        }
        summary.end(pod);
        summary
    }

    /// Init containers. Answers the restarts of sidecars alone once the pod is past its start, `None` before.
    fn start(&mut self, spec: &Value, status: &Value) -> Option<(i64, Option<i64>)> {
        let containers = list(&spec["initContainers"]);
        let (mut of_sidecars, mut last_of_sidecars) = (0i64, None);
        let mut initializing = false;
        for (i, container) in list(&status["initContainerStatuses"]).iter().enumerate() {
            let declared = containers.iter().find(|c| c["name"] == container["name"]);
            let is_sidecar = declared.is_some_and(|c| c["restartPolicy"] == "Always");
            self.count_restarts(container);
            if is_sidecar {
                of_sidecars = of_sidecars.saturating_add(number(&container["restartCount"]));
                last_of_sidecars = last_of_sidecars.max(last_end(container));
            }
            let (ended, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
            if !ended.is_null() && number(&ended["exitCode"]) == 0 {
                continue;
            }
            if is_sidecar && flag(&container["started"]) {
                self.ready += usize::from(flag(&container["ready"]));
                continue;
            }
            self.reason = if !ended.is_null() {
                format!("Init:{}", ending(ended))
            } else if !matches!(text(&waiting["reason"]), "" | "PodInitializing") {
                format!("Init:{}", text(&waiting["reason"]))
            } else {
                format!("Init:{i}/{}", containers.len())
            };
            initializing = true;
            break;
        }
        let initialized =
            list(&status["conditions"]).iter().any(|c| c["type"] == "Initialized" && c["status"] == "True");
        (!initializing || initialized).then_some((of_sidecars, last_of_sidecars))
    }

    /// The containers proper, last to first: the first one's trouble is named.
    fn run(&mut self, pod: &Value) {
        let (mut has_running, mut failure) = (false, None);
        for container in list(&pod["status"]["containerStatuses"]).iter().rev() {
            self.count_restarts(container);
            let state = &container["state"];
            let (waiting, ended) = (text(&state["waiting"]["reason"]), &state["terminated"]);
            if !waiting.is_empty() {
                self.reason = waiting.into();
            } else if !ended.is_null() {
                self.reason = ending(ended);
                if number(&ended["exitCode"]) != 0 {
                    failure = Some(self.reason.clone());
                }
            } else if flag(&container["ready"]) && !state["running"].is_null() {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if has_running && cells::has_condition(pod, "Ready") {
                self.reason = "Running".into();
            } else if let Some(failure) = failure {
                self.reason = failure;
            } else if has_running {
                self.reason = "NotReady".into();
            }
        }
    }

    /// Deletion outweighs the rest.
    fn end(&mut self, pod: &Value) {
        if !cells::is_terminating(pod) {
            return;
        }
        if pod["status"]["reason"] == "NodeLost" {
            self.reason = "Unknown".into();
        } else if !matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed") {
            self.reason = "Terminating".into();
        }
    }

    fn count_restarts(&mut self, container: &Value) {
        self.restarts = self.restarts.saturating_add(number(&container["restartCount"]));
        self.last_restart = self.last_restart.max(last_end(container));
    }
}

/// When the previous run of a container ended, in Unix seconds.
fn last_end(container: &Value) -> Option<i64> {
    duration::unix_seconds(&container["lastState"]["terminated"]["finishedAt"])
}

/// How a container ended: the reason, else the signal, else the exit code.
fn ending(terminated: &Value) -> String {
    let (reason, signal) = (text(&terminated["reason"]), number(&terminated["signal"]));
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", number(&terminated["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    fn cells(spec: Value, status: Value, deleting: bool) -> String {
        let mut pod = json!({"metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:00Z"}, "spec": spec, "status": status});
        if deleting {
            pod["metadata"]["deletionTimestamp"] = "1970-01-01T00:00:10Z".into();
        }
        let row = super::row(&pod, 600);
        row[1..5].iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_pod_in_one_word() {
        let one = || json!({"containers": [{"name": "a"}]});
        let two = || json!({"containers": [{"name": "a"}, {"name": "b"}]});
        let with_init = || json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
        let with_sidecar =
            || json!({"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
        let running = || json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
        let ended = |code: i64, reason: &str| json!({"name": "b", "restartCount": 0, "state": {"terminated": {"exitCode": code, "reason": reason}}});
        for (case, spec, status, deleting, expected) in [
            ("new", one(), json!({"phase": "Pending"}), false, "0/1 Pending 0 10m"),
            (
                "running",
                one(),
                json!({"phase": "Running", "containerStatuses": [running()]}),
                false,
                "1/1 Running 0 10m",
            ),
            (
                "crashing",
                one(),
                json!({"phase": "Running", "containerStatuses": [{"name": "a", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"finishedAt": "1970-01-01T00:05:00Z"}}}]}),
                false,
                "0/1 CrashLoopBackOff 3 (5m ago) 10m",
            ),
            (
                "starting",
                with_init(),
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}},
                    {"name": "j", "state": {"running": {}}}]}),
                false,
                "0/1 Init:1/2 0 10m",
            ),
            (
                "start fails",
                with_init(),
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
                false,
                "0/1 Init:Error 2 10m",
            ),
            (
                "sidecar counts",
                with_sidecar(),
                json!({"phase": "Running", "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "state": {"running": {}}}],
                    "containerStatuses": [running()]}),
                false,
                "2/2 Running 0 10m",
            ),
            (
                "done",
                one(),
                json!({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}),
                false,
                "0/1 Completed 0 10m",
            ),
            (
                "killed",
                one(),
                json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
                false,
                "0/1 Signal:9 0 10m",
            ),
            (
                "half done",
                two(),
                json!({"phase": "Running", "conditions": [], "containerStatuses": [ended(0, "Completed"), running()]}),
                false,
                "1/2 NotReady 0 10m",
            ),
            (
                "deleting",
                one(),
                json!({"phase": "Running", "containerStatuses": [running()]}),
                true,
                "1/1 Terminating 0 10m",
            ),
            (
                "gated",
                one(),
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
                false,
                "0/1 SchedulingGated 0 10m",
            ),
            ("evicted", one(), json!({"phase": "Failed", "reason": "Evicted"}), false, "0/1 Evicted 0 10m"),
        ] {
            assert_eq!(cells(spec, status, deleting), expected, "{case}");
        }
    }
}
