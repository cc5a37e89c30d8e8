//! What the demo shows, step by step, with the time each took.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use mizzen_client::{Client, DeleteOptions, Patch};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::cluster::{self, Cluster};
use super::manifest::{NAME, NAMESPACE};
use super::{image, load, manifest};
use crate::error::{CommandError, Result};

/// Longest wait for any step.
const STEP_MAX: Duration = Duration::from_secs(60);
/// Between two looks at the cluster.
const LOOK: Duration = Duration::from_millis(5);

/// Tells the story; the first thing that does not happen ends it. With `keep` everything is still there at its end.
pub async fn tell(cluster: &Cluster, keep: bool) -> Result<()> {
    println!("mizzen {}: a scratch cluster in a network namespace of its own\n", env!("CARGO_PKG_VERSION"));
    step("cluster started, node takes pods", cluster.started_in);
    let story = Story { cluster, client: &cluster.client };
    story.load_image().await?;
    let address = story.deploy().await?;
    story.reach(address).await?;
    story.heal().await?;
    story.scale().await?;
    story.roll_out(address).await?;
    if keep { Ok(()) } else { story.delete().await }
}

fn step(what: &str, took: Duration) {
    println!("  {what:<58} {:>8.1} ms", took.as_secs_f64() * 1e3);
}

struct Story<'a> {
    cluster: &'a Cluster,
    client: &'a Client,
}

impl Story<'_> {
    async fn load_image(&self) -> Result<()> {
        let began = Instant::now();
        let (scratch, data_dir) = (self.cluster.scratch(), self.cluster.data_dir());
        std::fs::create_dir_all(&scratch).map_err(CommandError::file("creating", &scratch))?;
        let program = cluster::program()?;
        tokio::task::spawn_blocking(move || image::load(&program, &scratch, &data_dir)).await??;
        step("sample image made of this binary and loaded", began.elapsed());
        Ok(())
    }

    async fn deploy(&self) -> Result<SocketAddr> {
        let began = Instant::now();
        let service = self.client.create(&manifest::service()?).await?;
        self.client.create(&manifest::deployment()?).await?;
        self.available(3).await?;
        step("Deployment of 3 replicas available", began.elapsed());
        let ip = service.spec.and_then(|s| s.cluster_ip).ok_or("the Service has no cluster IP")?;
        Ok(SocketAddr::new(ip.parse()?, 80))
    }

    async fn reach(&self, address: SocketAddr) -> Result<()> {
        let began = Instant::now();
        let dns: Option<Service> = self.client.get("kube-system", "kube-dns").await?;
        let dns: IpAddr = dns.and_then(|s| s.spec?.cluster_ip).ok_or("there is no DNS Service")?.parse()?;
        let name = format!("{NAME}.{NAMESPACE}.svc.cluster.local.");
        let found = load::look_up(dns, &name).await?;
        if found != address.ip() {
            return Err(format!("{name} means {found}, not the Service's {}", address.ip()).into());
        }
        step(&format!("name {} → {found}", name.trim_end_matches('.')), began.elapsed());
        let began = Instant::now();
        let tally = load::requests(address, 60).await;
        step(&format!("60 requests to {address}, {} failed", tally.failed()), began.elapsed());
        for (host, count) in &tally.hosts {
            println!("      {host:<40} {count:>3} {}", "▪".repeat(*count as usize));
        }
        no_failures(&tally)
    }

    async fn heal(&self) -> Result<()> {
        let victim = self.pods().await?.into_iter().next().ok_or("there is no pod")?;
        let (name, before) = (name(&victim), restarts(&victim));
        let pid = first_process(name).ok_or_else(|| format!("no process of pod {name} was found"))?;
        let began = Instant::now();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
        let healed = async {
            loop {
                let pod: Option<Pod> = self.client.get(NAMESPACE, name).await?;
                if pod.is_some_and(|p| restarts(&p) > before && mizzen_api::pod::is_ready(&p)) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        within(format!("healing of pod {name}"), healed).await?;
        step("container killed (SIGKILL) → running and ready again", began.elapsed());
        Ok(())
    }

    async fn scale(&self) -> Result<()> {
        let began = Instant::now();
        self.patch(json!({"spec": {"replicas": 10}})).await?;
        self.available(10).await?;
        step("scaled from 3 to 10", began.elapsed());
        Ok(())
    }

    async fn roll_out(&self, address: SocketAddr) -> Result<()> {
        let stop = CancellationToken::new();
        let load = tokio::spawn(load::under_load(address, stop.clone()));
        let began = Instant::now();
        let container = json!({"name": "web", "args": ["--version", "v2"]});
        self.patch(json!({"spec": {"template": {"spec": {"containers": [container]}}}})).await?;
        let rolled = self.rolled_out(10).await;
        let took = began.elapsed();
        tokio::time::sleep(Duration::from_millis(300)).await; // Some requests after the last step, too.
        stop.cancel();
        let tally = load.await?;
        rolled?;
        step("new version rolled out under load", took);
        let versions: Vec<String> =
            tally.versions.iter().map(|(version, count)| format!("{count} by {version}")).collect();
        println!("      {} requests meanwhile ({}), {} failed", tally.answered(), versions.join(", "), tally.failed());
        no_failures(&tally)
    }

    async fn delete(&self) -> Result<()> {
        let began = Instant::now();
        let options = DeleteOptions { propagation: Some("Background"), ..DeleteOptions::default() };
        self.client.delete::<Deployment>(NAMESPACE, NAME, &options).await?;
        self.client.delete::<Service>(NAMESPACE, NAME, &options).await?;
        let gone = async {
            while !self.pods().await?.is_empty() {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        };
        within("the end of all pods".into(), gone).await?;
        step("everything deleted, all 10 pods gone", began.elapsed());
        Ok(())
    }

    async fn available(&self, count: i32) -> Result<()> {
        self.until(&format!("{count} available replicas"), |d| {
            let status = d.status.as_ref();
            status.and_then(|s| s.available_replicas) == Some(count) && status.and_then(|s| s.replicas) == Some(count)
        })
        .await
    }

    async fn rolled_out(&self, count: i32) -> Result<()> {
        self.until("the rollout", |d| {
            let Some(status) = &d.status else { return false };
            status.observed_generation == d.metadata.generation
                && [status.updated_replicas, status.available_replicas, status.replicas] == [Some(count); 3]
        })
        .await
    }

    async fn until(&self, what: &str, done: impl Fn(&Deployment) -> bool) -> Result<()> {
        let wait = async {
            loop {
                let deployment: Option<Deployment> = self.client.get(NAMESPACE, NAME).await?;
                if deployment.is_some_and(|d| done(&d)) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        within(what.to_string(), wait).await
    }

    async fn patch(&self, patch: serde_json::Value) -> Result<()> {
        self.client.patch::<Deployment>(NAMESPACE, NAME, "", &Patch::Strategic(patch)).await?;
        Ok(())
    }

    async fn pods(&self) -> Result<Vec<Pod>> {
        Ok(self.client.list(NAMESPACE, &format!("app={NAME}"), "").await?)
    }
}

async fn within(what: String, work: impl Future<Output = Result<()>>) -> Result<()> {
    let late = |_| CommandError::TooLate {
        what,
        seconds: STEP_MAX.as_secs(),
        hint: "run `mizzen up --log-level info` to see why".into(),
    };
    tokio::time::timeout(STEP_MAX, work).await.map_err(late)?
}

fn no_failures(tally: &load::Tally) -> Result<()> {
    match tally.failures.first_key_value() {
        None => Ok(()),
        Some((what, count)) => Err(format!("{count} requests failed: {what}").into()),
    }
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|s| s.restart_count).sum()
}

/// The sample program's process in a pod, found by the host name in its environment.
fn first_process(pod: &str) -> Option<i32> {
    let wanted = format!("HOSTNAME={pod}");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_ours = |pid: &i32| {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let has = |text: Vec<u8>, part: &[u8]| text.split(|b| *b == 0).any(|p| p == part);
        has(read("environ"), wanted.as_bytes()) && has(read("cmdline"), b"web")
    };
    pids.into_iter().find(is_ours)
}
