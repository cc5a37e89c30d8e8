//! Scripts over the state machine: what happens on the left, what is to be done and how the pod looks on the right.

use super::*;
use crate::pod::backoff::Retry;
use crate::pod::observed::{Ended, ImageState, Running, Step};
use serde_json::{Value, json};

/// A pod under a script, with a clock that only the script moves.
struct World {
    pod: Pod,
    observed: Observed,
    shown: PodStatus,
    now: i64,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

impl World {
    fn new(spec: Value) -> Self {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "generation": 1},
            "spec": spec,
        }))
        .unwrap();
        pod.spec.as_mut().unwrap().termination_grace_period_seconds.get_or_insert(30);
        Self { pod, observed: Observed::new(at(0)), shown: PodStatus::default(), now: 0 }
    }

    /// Plans, marks what was asked for, and says it in short.
    fn plan(&mut self) -> String {
        if self.observed.doom.is_none() && deadline_exceeded(&self.pod, &self.shown, &self.observed, at(self.now)) {
            self.observed.doom = Some(Doom {
                reason: "DeadlineExceeded".into(),
                message: String::new(),
                rejected: false,
                grace_seconds: 30,
                at: at(self.now),
                disruption: false,
            });
        }
        let plan = plan(&self.pod, &self.shown, &self.observed, &NodeFacts::default(), at(self.now));
        let actions: Vec<String> = plan.actions.iter().map(word).collect();
        for action in &plan.actions {
            self.observed.begin(action, at(self.now));
        }
        self.shown = plan.status;
        let wake =
            plan.wake_at.map(|w| format!(" wake+{}", w.as_second() - at(self.now).as_second())).unwrap_or_default();
        let end = if plan.finished { " finished" } else { "" };
        format!("{}{wake}{end}; {}", actions.join(" "), self.looks()).trim().to_string()
    }

    /// Phase, whether it is ready, and each container's state.
    fn looks(&self) -> String {
        let ready = self.shown.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        let mut text = self.shown.phase.clone().unwrap_or_default();
        if ready {
            text.push_str(" ready");
        }
        let all =
            self.shown.init_container_statuses.iter().flatten().chain(self.shown.container_statuses.iter().flatten());
        for status in all {
            let state = status.state.clone().unwrap_or_default();
            let state = if let Some(w) = state.waiting {
                w.reason.unwrap_or_default()
            } else if let Some(t) = state.terminated {
                format!("{}({})", t.reason.unwrap_or_default(), t.exit_code)
            } else {
                "run".into()
            };
            let restarts = if status.restart_count > 0 { format!("#{}", status.restart_count) } else { String::new() };
            text.push_str(&format!(" {}{restarts}:{state}", status.name));
        }
        text
    }

    fn happen(&mut self, event: &str) {
        let words: Vec<&str> = event.split_whitespace().collect();
        let now = at(self.now);
        match words.as_slice() {
            [] => {}
            [wait] if wait.starts_with('+') => self.now += wait[1..].parse::<i64>().unwrap(),
            ["volumes"] => self.observed.volumes = Step::Done,
            ["volumes", "fail"] => {
                let retry = Retry::after(None, now, 1, 30);
                self.observed.volumes = Step::Failed { message: "no".into(), retry };
            }
            ["sandbox"] => self.observed.sandbox = SandboxState::Ready { ips: vec!["10.0.0.1".parse().unwrap()] },
            ["sandbox", "lost"] => self.observed.sandbox_lost(now),
            ["image", name] => self.observed.container_mut(name).image = ImageState::Ready,
            ["image", name, "fail"] => {
                let record = self.observed.container_mut(name);
                let retry = Retry::after(record.pull_retry, now, 10, 300);
                record.pull_retry = Some(retry);
                record.image =
                    ImageState::Failed { reason: "ErrImagePull", message: "no".into(), image: "i".into(), retry };
            }
            ["started", name] | ["started", name, "hook"] => {
                let hook = words.len() == 3;
                let record = self.observed.container_mut(name);
                if record.last.is_some() {
                    record.restarts += 1;
                }
                record.state = ContainerPhase::Running(Running {
                    id: format!("{name}-{}", record.restarts),
                    image_id: "sha".into(),
                    image: self
                        .pod
                        .spec
                        .as_ref()
                        .unwrap()
                        .containers
                        .iter()
                        .find(|c| c.name == *name)
                        .and_then(|c| c.image.clone()),
                    started_at: now,
                    post_start: if hook { Hook::Running } else { Hook::Done },
                    stop: None,
                    given: None,
                });
            }
            ["config", name] => {
                self.observed.container_mut(name).state = ContainerPhase::CreateFailed {
                    reason: "CreateContainerConfigError",
                    message: "no".into(),
                    retry: Retry::after(None, now, 1, 30),
                };
            }
            ["exit", name, code] => {
                let record = self.observed.container_mut(name);
                let ContainerPhase::Running(running) = record.state.clone() else { panic!("{name} does not run") };
                let code: i32 = code.parse().unwrap();
                record.ended(Ended {
                    id: running.id,
                    image_id: running.image_id,
                    started_at: Some(running.started_at),
                    finished_at: now,
                    code,
                    signal: None,
                    reason: if code == 0 { "Completed".into() } else { "Error".into() },
                    message: String::new(),
                });
            }
            ["probe", name, kind, ok] => {
                let probes = &mut self.observed.container_mut(name).probes;
                let slot = match *kind {
                    "startup" => &mut probes.startup,
                    "readiness" => &mut probes.readiness,
                    _ => &mut probes.liveness,
                };
                *slot = Some(*ok == "ok");
            }
            ["hook", name, ok] => {
                let ContainerPhase::Running(r) = &mut self.observed.container_mut(name).state else { panic!() };
                r.post_start = if *ok == "ok" { Hook::Done } else { Hook::Failed("no".into()) };
            }
            ["prestopped", name] => {
                let ContainerPhase::Running(r) = &mut self.observed.container_mut(name).state else { panic!() };
                r.stop.as_mut().unwrap().step = StopStep::PreStopDone;
            }
            ["delete", grace] => {
                let grace: i64 = grace.parse().unwrap();
                let end = at(self.now + grace);
                self.pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(end));
                self.pod.metadata.deletion_grace_period_seconds = Some(grace);
            }
            ["written"] => {
                self.observed.reported_terminal = status::is_terminal(self.shown.phase.as_deref());
            }
            ["torndown"] => {
                self.observed.teardown = Step::Done;
                self.observed.sandbox = SandboxState::Absent;
            }
            ["set", "image", image] => {
                self.pod.spec.as_mut().unwrap().containers[0].image = Some((*image).to_string());
            }
            ["gone"] => self.observed.gone = true,
            other => panic!("unknown event {other:?}"),
        }
    }
}

fn word(action: &Action) -> String {
    match action {
        Action::SetUpVolumes => "volumes".into(),
        Action::RefreshVolumes => "refresh".into(),
        Action::StartSandbox => "sandbox".into(),
        Action::EnsureImage { container } => format!("pull({container})"),
        Action::Start { container, attempt } => format!("start({container},{attempt})"),
        Action::PreStop { container, grace_seconds, .. } => format!("prestop({container},{grace_seconds})"),
        Action::Signal { container, grace_seconds, .. } => format!("term({container},{grace_seconds})"),
        Action::Kill { container, .. } => format!("kill({container})"),
        Action::RestartAll => "all".into(),
        Action::Resize => "resize".into(),
        Action::TearDown => "teardown".into(),
        Action::DeletePod => "delete".into(),
    }
}

/// Runs a script: each line is `events, separated by commas -> plan`.
fn check(spec: Value, script: &str) {
    let mut world = World::new(spec);
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (events, want) = line.split_once("->").unwrap();
        for event in events.split(',') {
            world.happen(event.trim());
        }
        assert_eq!(world.plan(), want.trim(), "after {:?}", events.trim());
    }
}

fn one() -> Value {
    json!({"containers": [{"name": "a"}]})
}

const UP: &str = "
    -> volumes sandbox pull(a); Pending a:ContainerCreating
    volumes, sandbox, image a -> start(a,0); Pending a:ContainerCreating
    started a -> ; Running ready a:run
";

fn up_then(spec: Value, script: &str) {
    check(spec, &format!("{UP}{script}"));
}

#[test]
fn volumes_sandbox_and_image_are_made_at_once() {
    up_then(one(), "");
    check(
        one(),
        "-> volumes sandbox pull(a); Pending a:ContainerCreating
         volumes fail, sandbox, image a -> wake+1; Pending a:ContainerCreating
         +1 -> volumes; Pending a:ContainerCreating
         volumes -> start(a,0); Pending a:ContainerCreating",
    );
}

#[test]
fn a_container_that_ends_starts_again_with_growing_waits() {
    up_then(
        one(),
        "exit a 1 -> pull(a); Running a:Error(1)
         image a -> start(a,1); Running a:Error(1)
         started a -> ; Running ready a#1:run
         +1, exit a 1 -> wake+10; Running a#1:CrashLoopBackOff
         +10 -> pull(a); Running a#1:CrashLoopBackOff
         image a -> start(a,2); Running a#1:CrashLoopBackOff
         started a -> ; Running ready a#2:run
         +1, exit a 0 -> wake+20; Running a#2:CrashLoopBackOff
         +20, image a -> start(a,3); Running a#2:CrashLoopBackOff
         started a -> ; Running ready a#3:run
         +700, exit a 1 -> pull(a); Running a#3:Error(1)",
    );
}

#[test]
fn restart_policies_end_the_pod() {
    let policy = |p: &str| json!({"containers": [{"name": "a"}], "restartPolicy": p});
    up_then(
        policy("Never"),
        "exit a 0 -> teardown; Succeeded a:Completed(0)
         written, torndown -> ; Succeeded a:Completed(0)",
    );
    up_then(policy("Never"), "exit a 3 -> teardown; Failed a:Error(3)");
    up_then(policy("OnFailure"), "exit a 3 -> pull(a); Running a:Error(3)");
    up_then(policy("OnFailure"), "exit a 0 -> teardown; Succeeded a:Completed(0)");
}

#[test]
fn images_that_cannot_be_had() {
    check(
        one(),
        "-> volumes sandbox pull(a); Pending a:ContainerCreating
         volumes, sandbox, image a fail -> wake+10; Pending a:ErrImagePull
         +10 -> pull(a); Pending a:ErrImagePull
         image a fail -> wake+20; Pending a:ImagePullBackOff
         +20, image a -> start(a,0); Pending a:ContainerCreating
         config a -> wake+1; Pending a:CreateContainerConfigError
         +1 -> start(a,0); Pending a:CreateContainerConfigError",
    );
}

#[test]
fn init_containers_run_in_order() {
    let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
    check(
        spec.clone(),
        "-> volumes sandbox pull(i); Pending i:PodInitializing j:PodInitializing a:PodInitializing
         volumes, sandbox, image i -> start(i,0); Pending i:PodInitializing j:PodInitializing a:PodInitializing
         started i -> ; Pending i:run j:PodInitializing a:PodInitializing
         exit i 0 -> pull(j); Pending i:Completed(0) j:PodInitializing a:PodInitializing
         image j, started j, exit j 1 -> pull(j); Pending i:Completed(0) j:Error(1) a:PodInitializing
         image j, started j, exit j 0 -> pull(a); Pending i:Completed(0) j:Completed(0) a:PodInitializing
         image a, started a -> ; Running ready i:Completed(0) j:Completed(0) a:run
         exit a 1 -> pull(a); Running i:Completed(0) j:Completed(0) a:Error(1)",
    );
    let mut never = spec;
    never["restartPolicy"] = "Never".into();
    check(
        never,
        "volumes, sandbox, image i, started i, exit i 2 -> teardown; Failed i:Error(2) j:PodInitializing a:PodInitializing",
    );
}

#[test]
fn sidecars_start_first_and_stop_last() {
    let probe = json!({"exec": {"command": ["true"]}});
    let spec = json!({"containers": [{"name": "a"}], "restartPolicy": "Never", "initContainers": [
        {"name": "s", "restartPolicy": "Always", "startupProbe": probe}, {"name": "t", "restartPolicy": "Always"}]});
    check(
        spec,
        "-> volumes sandbox pull(s); Pending s:PodInitializing t:PodInitializing a:PodInitializing
         volumes, sandbox, image s, started s -> ; Pending s:run t:PodInitializing a:PodInitializing
         probe s startup ok -> pull(t); Pending s:run t:PodInitializing a:PodInitializing
         image t, started t -> pull(a); Pending s:run t:run a:PodInitializing
         image a, started a -> ; Running ready s:run t:run a:run
         exit t 1 -> pull(t); Running s:run t:Error(1) a:run
         image t, started t -> ; Running ready s:run t:run a:run
         exit a 0 -> term(t,30); Running s:run t:run a:Completed(0)
         +1, exit t 0 -> term(s,30); Running s:run t:Completed(0) a:Completed(0)
         exit s 143 -> teardown; Succeeded s:Error(143) t:Completed(0) a:Completed(0)",
    );
}

#[test]
fn probes_decide_readiness_and_restarts() {
    let probe = json!({"httpGet": {"port": 80}});
    let ready = json!({"containers": [{"name": "a", "readinessProbe": probe}]});
    check(
        ready,
        "volumes, sandbox, image a, started a -> ; Running a:run
         probe a readiness ok -> ; Running ready a:run
         probe a readiness fail -> ; Running a:run",
    );
    let mut live = probe.clone();
    live["terminationGracePeriodSeconds"] = 3.into();
    check(
        json!({"containers": [{"name": "a", "livenessProbe": live}]}),
        "volumes, sandbox, image a, started a -> ; Running ready a:run
         probe a liveness fail -> term(a,3); Running ready a:run
         -> wake+3; Running ready a:run
         +3 -> kill(a); Running ready a:run
         exit a 137 -> pull(a); Running a:Error(137)",
    );
    check(
        json!({"containers": [{"name": "a", "startupProbe": probe, "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]}),
        "volumes, sandbox, image a, started a -> ; Running a:run
         probe a startup fail -> prestop(a,30); Running a:run
         prestopped a -> term(a,30); Running a:run",
    );
}

#[test]
fn a_new_image_replaces_the_container() {
    check(
        json!({"containers": [{"name": "a", "image": "one"}]}),
        "volumes, sandbox, image a, started a -> ; Running ready a:run
         set image two -> term(a,30); Running ready a:run
         exit a 0 -> pull(a); Running a:Completed(0)",
    );
}

#[test]
fn a_failed_post_start_hook_stops_the_container() {
    up_then(
        one(),
        "exit a 1, image a, started a hook -> ; Running ready a:run
         hook a fail -> term(a,30); Running ready a:run",
    );
}

#[test]
fn deletion_is_graceful_and_then_final() {
    up_then(
        one(),
        "delete 5 -> term(a,5); Running ready a:run
         -> wake+5; Running ready a:run
         +5 -> kill(a); Running ready a:run
         +5 -> kill(a); Running ready a:run
         exit a 137 -> teardown; Failed a:Error(137)
         written -> delete; Failed a:Error(137)
         torndown -> ; Failed a:Error(137)
         gone -> finished; Failed a:Error(137)",
    );
    up_then(one(), "delete 30 -> term(a,30); Running ready a:run\n exit a 0 -> teardown; Succeeded a:Completed(0)");
    up_then(
        one(),
        "delete 30 -> term(a,30); Running ready a:run
         +1, delete 1 -> wake+1; Running ready a:run
         +1 -> kill(a); Running ready a:run",
    );
    up_then(one(), "delete 0 -> kill(a); Running ready a:run");
    // Forced away: nobody is left to tell, but it is still stopped and cleaned up.
    up_then(
        one(),
        "gone -> term(a,30); Running ready a:run
         exit a 0 -> teardown; Succeeded a:Completed(0)
         torndown -> finished; Succeeded a:Completed(0)",
    );
}

#[test]
fn a_pod_deleted_before_it_started_waits_for_what_is_under_way() {
    check(
        one(),
        "-> volumes sandbox pull(a); Pending a:ContainerCreating
         delete 30 -> ; Failed a:ContainerCreating
         volumes, sandbox -> teardown; Failed a:ContainerCreating",
    );
}

#[test]
fn the_active_deadline_ends_the_pod() {
    let mut spec = one();
    spec["activeDeadlineSeconds"] = 60.into();
    check(
        spec,
        "-> volumes sandbox pull(a) wake+60; Pending a:ContainerCreating
         volumes, sandbox, image a, started a -> wake+60; Running ready a:run
         +60 -> term(a,30); Running ready a:run
         exit a 0 -> teardown; Failed a:Completed(0)",
    );
}

#[test]
fn a_lost_sandbox_is_made_anew() {
    up_then(
        one(),
        "sandbox lost -> sandbox pull(a); Running a:Error(137)
         sandbox, image a -> start(a,1); Running a:Error(137)",
    );
}

#[test]
fn messages_are_those_of_kubernetes() {
    let mut world = World::new(one());
    for event in ["volumes", "sandbox", "image a", "started a", "exit a 1", "image a", "started a", "exit a 1"] {
        world.happen(event);
        world.plan();
    }
    let status = &world.shown.container_statuses.as_ref().unwrap()[0];
    let waiting = status.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.message.as_deref(), Some("back-off 10s restarting failed container=a pod=p_d(u)"));
    let ready = world.shown.conditions.as_ref().unwrap().iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [a]"));
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(ready.observed_generation, Some(1));
}

#[test]
fn a_resize_shows_until_it_is_done() {
    let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
    let mut world = World::new(json!({"containers": [{"name": "a", "resources": cpu("2")}]}));
    for event in ["volumes", "sandbox", "image a", "started a"] {
        world.happen(event);
    }
    let mut shown = |given: Option<&str>| {
        let ContainerPhase::Running(running) = &mut world.observed.container_mut("a").state else { panic!() };
        running.given = given.map(|amount| serde_json::from_value(cpu(amount)).unwrap());
        world.plan();
        let status = serde_json::to_value(&world.shown).unwrap();
        let under_way = status["conditions"].as_array().unwrap().iter().any(|c| c["type"] == "PodResizeInProgress");
        let container = &status["containerStatuses"][0];
        (container["resources"].clone(), container["allocatedResources"].clone(), under_way)
    };
    assert_eq!(shown(Some("1")), (cpu("1"), json!({"cpu": "2"}), true));
    assert_eq!(shown(None), (cpu("2"), json!({"cpu": "2"}), false));
}

#[test]
fn a_resize_restarts_what_says_so() {
    let mut world = World::new(json!({"restartPolicy": "Never", "containers": [
        {"name": "a", "resources": {"limits": {"memory": "2"}},
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]},
        {"name": "b", "resources": {"limits": {"memory": "2"}}}]}));
    for event in ["volumes", "sandbox", "image a", "started a", "image b", "started b"] {
        world.happen(event);
    }
    world.plan();
    for name in ["a", "b"] {
        let ContainerPhase::Running(running) = &mut world.observed.container_mut(name).state else { panic!() };
        running.given = Some(serde_json::from_value(json!({"limits": {"memory": "1"}})).unwrap());
    }
    world.observed.resize = Step::Todo;
    assert_eq!(world.plan(), "resize term(a,30); Running ready a:run b:run");
    world.observed.resize = Step::Done;
    world.happen("exit a 0");
    assert!(world.observed.renews("a"));
    assert_eq!(world.plan(), "pull(a); Running a:Completed(0) b:run");
}

#[test]
fn one_end_restarts_all() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [
        {"name": "a", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]},
        {"name": "b"}]});
    check(
        spec,
        "-> volumes sandbox pull(i); Pending i:PodInitializing a:PodInitializing b:PodInitializing
        volumes, sandbox, image i -> start(i,0); Pending i:PodInitializing a:PodInitializing b:PodInitializing
        started i, exit i 0 -> pull(a) pull(b); Pending i:Completed(0) a:PodInitializing b:PodInitializing
        image a, image b, started a, started b -> ; Running ready i:Completed(0) a:run b:run
        exit a 42 -> term(b,30); Running i:Completed(0) a:Error(42) b:run
        exit b 143 -> all; Running i:Completed(0) a:Error(42) b:Error(143)
        -> pull(i); Running i#1:PodInitializing a#1:PodInitializing b#1:PodInitializing
        image i -> start(i,1); Running i#1:PodInitializing a#1:PodInitializing b#1:PodInitializing",
    );
}
