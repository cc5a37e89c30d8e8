//! `vm`: the node's tests on a kernel with cgroup v2 only, in a virtual machine that ends with the task.
//!
//! The machine has this machine's file system as its root, read-only, with fresh tmpfs where something is written. So the
//! tests are the same programs, with the same tools, on another kernel. It speaks through its serial console.

mod initramfs;
mod kernel;

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::packages;
use crate::run::{Result, is_there, output, root, run};
use initramfs::Archive;
use kernel::Kernel;

/// Drivers without which the root cannot be reached; all others are loaded when they are needed.
const DRIVERS: [&str; 3] = ["virtio_pci", "9pnet_virtio", "9p"];
/// Longest run: all tests take a few minutes, emulated several times that.
const WITHIN: Duration = Duration::from_secs(2400);
/// Memory of the machine; files that tests write lie in it too.
const MEMORY_MIB: &str = "4096";
/// How much longer tests wait for things on an emulated machine.
const EMULATED_PATIENCE: u32 = 15;
/// The test programs that run, the tests of each that an emulated machine has the time for, and how they run.
const RUN: [(&str, &str, &str); 4] = [
    ("mizzen_runtime", "cgroup", "--test-threads 1 --nocapture"),
    ("oci", "limits:: basics::removal", ""),
    ("real", "", "--test-threads 2 --nocapture"),
    ("kubectl", "limits_are_the_kernels memory_limits_hold top_shows", "--test-threads 1 --nocapture"),
];
/// Programs, and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 3] =
    [("qemu-system-x86_64", "qemu-system-x86"), ("depmod", "kmod"), ("busybox", "busybox-static")];

/// Why the machine must be emulated, if so. Without the processor's own virtualization `/dev/kvm` may be there all the same (PVM
/// in a cloud), but takes only kernels built for it, which Debian's is not.
fn must_emulate() -> Option<String> {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm") {
        return Some("the processor offers no virtualization".into());
    }
    let kvm = std::fs::File::options().read(true).write(true).open("/dev/kvm");
    kvm.err().map(|error| format!("/dev/kvm: {error}"))
}

/// Runs the node's tests whose names contain `filter` in a machine.
pub fn vm(offline: bool, filter: Option<&str>) -> Result {
    if !cfg!(target_arch = "x86_64") {
        return Err("the virtual machine is only made for x86_64".into());
    }
    let emulation = must_emulate();
    if let Some(reason) = &emulation {
        println!("the virtual machine is emulated and runs only the tests of limits, for {reason}");
    }
    packages::install(offline);
    packages::programs(&PROGRAMS, offline);
    if let Some((program, package)) = PROGRAMS.iter().find(|(program, _)| !is_there(program)) {
        return Err(format!("{program} is needed (Debian package {package})"));
    }
    let kernel = Kernel::get(offline)?;
    run("cargo", &["build", "--package", "mizzen"])?;
    let folder = root().join("target/vm");
    let tests = folder.join("tests");
    std::fs::write(&tests, commands(filter, emulation.is_some())?).map_err(|e| format!("{}: {e}", tests.display()))?;
    let guest = root().join("xtask/src/vm/guest.sh");
    let start = format!(
        "export PATH='{}' HOME=/tmp\ncd {}\n{}sh {} {} {} {}\nsync\n/bin/busybox poweroff -f\n",
        std::env::var("PATH").unwrap_or_default(),
        shown(&root())?,
        environment(emulation.is_some())?,
        shown(&guest)?,
        shown(&kernel.folder)?,
        shown(&binary()?)?,
        shown(&tests)?,
    );
    let initial = folder.join("initramfs");
    write_initramfs(&initial, &kernel, &start).map_err(|e| format!("{}: {e}", initial.display()))?;
    Machine::start(&kernel, &initial, emulation.is_some())?.watch()
}

/// The file system's path as the machine sees it: the same.
fn shown(path: &Path) -> Result<String> {
    let path = std::fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path.to_string_lossy().into_owned())
}

fn environment(emulated: bool) -> Result<String> {
    let mut lines = String::new();
    if emulated {
        lines.push_str(&format!("export MIZZEN_TEST_PATIENCE={EMULATED_PATIENCE}\n"));
    }
    let kubectl = packages::kubectl().ok_or("kubectl is needed")?;
    for (name, path) in [("MIZZEN_TEST_KUBECTL", kubectl), ("MIZZEN_TEST_PYTHON", packages::python())] {
        lines.push_str(&format!("export {name}='{}'\n", shown(&path)?));
    }
    Ok(lines)
}

fn binary() -> Result<PathBuf> {
    let artifacts = output("cargo", &["build", "--quiet", "--package", "mizzen", "--message-format=json"])?;
    executables(&artifacts, "bin").pop().map(|(_, path)| path).ok_or_else(|| "cargo built no mizzen".into())
}

/// A line for the shell for each test program.
fn commands(filter: Option<&str>, emulated: bool) -> Result<String> {
    let built = |of: &[&str]| {
        let args = [&["test", "--no-run", "--quiet", "--message-format=json"], of].concat();
        output("cargo", &args).map(|artifacts| executables(&artifacts, "test"))
    };
    let mut programs = built(&["--package", "mizzen-runtime", "--lib", "--test", "oci"])?;
    if !emulated {
        programs.extend(built(&["--package", "mizzen-agent", "--test", "real"])?);
    }
    programs.extend(built(&["--package", "mizzen", "--test", "kubectl"])?);
    let mut lines = String::new();
    for (name, path) in programs {
        // Other programs are examples and binaries that tests use.
        let Some((_, words, flags)) = RUN.iter().find(|(program, ..)| *program == name) else { continue };
        let words = filter.unwrap_or(if emulated || name == "mizzen_runtime" { words } else { "" });
        lines.push_str(&format!("{} {words} {flags}\n", shown(&path)?));
    }
    Ok(lines)
}

/// The programs that cargo says it built: target's name and path. Cargo writes one JSON object a line.
fn executables(artifacts: &str, kind: &str) -> Vec<(String, PathBuf)> {
    let field = |line: &str, name: &str| -> Option<String> {
        let rest = line.split_once(&format!("\"{name}\":\""))?.1;
        Some(rest.split('"').next()?.to_string())
    };
    let of_kind = |line: &&str| match kind {
        "test" => line.contains("\"test\":true},\"features\":") && !line.contains("\"executable\":null"),
        kind => line.contains(&format!("\"kind\":[\"{kind}\"]")),
    };
    let lines = artifacts.lines().filter(|l| l.contains("\"reason\":\"compiler-artifact\"")).filter(of_kind);
    let named = |line: &str| {
        let target = line.split_once("\"target\":")?.1;
        Some((field(target, "name")?, PathBuf::from(field(line, "executable")?)))
    };
    lines.filter_map(named).collect()
}

fn write_initramfs(path: &Path, kernel: &Kernel, start: &str) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut archive = Archive::new(BufWriter::new(std::fs::File::create(path)?));
    archive.directory("bin")?;
    archive.directory("modules")?;
    archive.program("bin/busybox", &std::fs::read("/bin/busybox")?)?;
    archive.program("init", include_bytes!("init.sh"))?;
    archive.program("start", start.as_bytes())?;
    let mut order = String::new();
    for file in kernel.modules(&DRIVERS)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        archive.program(&format!("modules/{name}"), &std::fs::read(&file)?)?;
        order.push_str(&format!("{name}\n"));
    }
    archive.program("modules/order", order.as_bytes())?;
    Ok(archive.finish()?)
}

/// A running machine; dropping it ends it.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    fn start(kernel: &Kernel, initial: &Path, emulated: bool) -> Result<Self> {
        // It ends with this task even if the task is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        let processor =
            if emulated { ["-accel", "tcg,thread=multi", "-cpu", "max"] } else { ["-accel", "kvm", "-cpu", "host"] };
        command.args(["-machine", "q35"]).args(processor);
        command.args(["-smp", "2", "-m", MEMORY_MIB, "-nodefaults"]);
        command.args(["-display", "none", "-no-reboot", "-nic", "none", "-serial", "stdio"]);
        command.args(["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"]);
        command.args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]);
        command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initial);
        command.args(["-append", "console=ttyS0 quiet panic=-1 cgroup_no_v1=all mitigations=off"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        child.map(Self).map_err(|e| format!("qemu-system-x86_64 cannot be run: {e}"))
    }

    /// Shows the console and keeps it in `target/vm/console.log` until the machine ends; what it came to.
    fn watch(mut self) -> Result {
        let kept = root().join("target/vm/console.log");
        let mut log = std::fs::File::create(&kept).map_err(|e| format!("{}: {e}", kept.display()))?;
        let console = self.0.stdout.take().ok_or("the machine has no console")?;
        let (lines, heard) = std::sync::mpsc::sync_channel(1024);
        let reader = std::thread::spawn(move || {
            // A console that breaks off is a machine that ended.
            for line in BufReader::new(console).split(b'\n').map_while(std::result::Result::ok) {
                if lines.send(String::from_utf8_lossy(&line).trim_end().to_string()).is_err() {
                    return;
                }
            }
        });
        let deadline = Instant::now() + WITHIN;
        let mut result = None;
        let ended = loop {
            match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    println!("{line}");
                    writeln!(log, "{line}").map_err(|e| format!("{}: {e}", kept.display()))?;
                    result = line.strip_prefix("vm: result ").map(str::to_string).or(result);
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break true,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => break false,
            }
        };
        drop(heard);
        drop(self);
        // The reader's console closed with the machine.
        let _ = reader.join();
        match (ended, result.as_deref()) {
            (_, Some("0")) => Ok(()),
            (true, Some(_)) => Err("tests failed in the virtual machine".into()),
            (true, None) => Err("the virtual machine ended without a result".into()),
            (false, _) => Err(format!("the virtual machine did not end within {} s", WITHIN.as_secs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_what_cargo_says() {
        let line = |kind: &str, name: &str, test: bool, path: &str| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"package_id\":\"p\",\"target\":{{\"kind\":[\"{kind}\"],\"name\":\"{name}\",\"test\":true}},\
                 \"profile\":{{\"opt_level\":\"0\",\"test\":{test}}},\"features\":[],\"executable\":{path}}}"
            )
        };
        let said = [
            line("lib", "mizzen_runtime", true, "\"/t/rt\""),
            line("test", "oci", true, "\"/t/oci\""),
            line("lib", "x", false, "null"),
            line("bin", "mizzen", false, "\"/t/mizzen\""),
        ]
        .join("\n");
        let tests: Vec<String> = executables(&said, "test").into_iter().map(|(name, _)| name).collect();
        assert_eq!(tests, ["mizzen_runtime", "oci"]);
        assert_eq!(executables(&said, "bin"), [("mizzen".to_string(), PathBuf::from("/t/mizzen"))]);
    }
}
