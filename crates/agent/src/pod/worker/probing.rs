//! Hooks and probes of the containers that run: begun, ended, heard.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Worker;
use crate::pod::observed::{ContainerPhase, Hook};
use crate::pod::roles::{self, Role};
use crate::pod::{execute, plan};
use crate::probe::{self, Kind, Verdict};

impl Worker {
    /// Begins postStart hooks of containers that have just started.
    pub(super) fn mind_hooks(&mut self) {
        let ready: Vec<(String, String)> = self
            .observed
            .containers
            .iter()
            .filter_map(|(name, record)| match &record.state {
                ContainerPhase::Running(r) if r.post_start == Hook::Running && !self.hooked.contains(&r.id) => {
                    Some((name.clone(), r.id.clone()))
                }
                _ => None,
            })
            .collect();
        for (name, id) in ready {
            if let Some((container, _)) = self.find(&name) {
                self.hooked.insert(id.clone());
                let (ctx, pod) = (Arc::clone(&self.ctx), Arc::clone(&self.pod));
                self.tasks.spawn(execute::post_start(ctx, pod, container, id, self.ip()));
            }
        }
    }

    /// Begins and ends probes so that they are those of the containers that run.
    pub(super) fn mind_probes(&mut self) {
        let wanted = self.wanted_probes();
        self.probes.retain(|key, handle| {
            let keep = wanted.contains_key(key) && !handle.is_finished();
            if !keep && !handle.is_finished() {
                handle.abort();
            }
            // A startup probe that passed is finished; the verdict keeps it from being wanted again.
            keep
        });
        while self.probe_tasks.try_join_next().is_some() {}
        let Some(ip) = self.ip() else { return };
        for ((id, kind), name) in wanted {
            if self.probes.contains_key(&(id.clone(), kind)) {
                continue;
            }
            let Some((container, _)) = self.find(&name) else { continue };
            let target = probe::Target {
                ctx: Arc::clone(&self.ctx),
                pod: Arc::clone(&self.pod),
                container,
                id: id.clone(),
                ip,
                kind,
                verdicts: self.verdicts.0.clone(),
            };
            let handle = self.probe_tasks.spawn(probe::run(target));
            self.probes.insert((id, kind), handle);
        }
    }

    /// The probes that should run: (container id, kind) to container name.
    fn wanted_probes(&self) -> BTreeMap<(String, Kind), String> {
        let mut wanted = BTreeMap::new();
        let Some(spec) = self.pod.spec.as_ref() else { return wanted };
        let ending = self.pod.metadata.deletion_timestamp.is_some() || self.observed.doom.is_some();
        for member in roles::members(spec).filter(|m| m.role != Role::Init) {
            let container = member.container;
            let Some(record) = self.observed.containers.get(&container.name) else { continue };
            let ContainerPhase::Running(running) = &record.state else { continue };
            let started = plan::is_started(container, record);
            for (kind, due) in [
                (Kind::Startup, record.probes.startup.is_none() && !ending),
                (Kind::Readiness, started),
                (Kind::Liveness, started && !ending && running.stop.is_none()),
            ] {
                if due && kind.of(container).is_some() {
                    wanted.insert((running.id.clone(), kind), container.name.clone());
                }
            }
        }
        wanted
    }

    pub(super) fn take_verdict(&mut self, verdict: &Verdict) {
        if self.running_id(&verdict.container).as_deref() != Some(&verdict.id) {
            return;
        }
        let results = &mut self.observed.container_mut(&verdict.container).probes;
        let slot = match verdict.kind {
            Kind::Startup => &mut results.startup,
            Kind::Readiness => &mut results.readiness,
            Kind::Liveness => &mut results.liveness,
        };
        *slot = Some(verdict.ok);
    }
}
