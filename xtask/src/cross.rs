//! `cargo xtask cross`: daemon and simulator for ARM Linux boards, run with QEMU's user emulation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::board::Toolchain;
use crate::run::{self, install, output, root};

/// A kind of board.
struct Machine {
    name: &'static str,
    target: &'static str,
    /// Compiles what is C, and links.
    gcc: &'static str,
    packages: [&'static str; 2],
    qemu: &'static str,
}

const MACHINES: [Machine; 2] = [
    Machine {
        name: "aarch64",
        target: "aarch64-unknown-linux-gnu",
        gcc: "aarch64-linux-gnu-gcc",
        packages: ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
        qemu: "qemu-aarch64-static",
    },
    Machine {
        name: "armv7",
        target: "armv7-unknown-linux-gnueabihf",
        gcc: "arm-linux-gnueabihf-gcc",
        packages: ["gcc-arm-linux-gnueabihf", "libc6-dev-armhf-cross"],
        qemu: "qemu-arm-static",
    },
];

/// Seconds of the recordings that are replayed: made up here, and played on the board.
const MADE_UP_SECONDS: &str = "1000";
const DEMO_SECONDS: &str = "20";

/// Builds and tries both.
pub(crate) fn run_all() -> Result<()> {
    run::run(&mut run::cargo(&["build", "--locked", "-q", "--release", "-p", "wanctl-sim"]))?;
    let folder = run::target().join("cross");
    fs::create_dir_all(&folder)?;
    let ours = run::target().join("release/wanctl-sim");
    let recording = folder.join("made-up.trace");
    let mut synthesize = Command::new(&ours);
    synthesize.arg("synthesize").arg(&recording).args(["--hostile", "--seconds", MADE_UP_SECONDS]);
    output(&mut synthesize)?;
    let expected = replay(&mut Command::new(&ours), &recording, &folder)?;
    for machine in &MACHINES {
        let programs = machine.build()?;
        machine.check_configs(&programs)?;
        let outputs = replay(&mut machine.command(&programs, "wanctl-sim"), &recording, &folder)?;
        ensure!(outputs == expected, "{}: its outputs are not the host's", machine.name);
        let bytes = outputs.len();
        println!("{}: {bytes} bytes of outputs identical to the host's", machine.name);
        machine.play(&programs, &ours, &folder)?;
    }
    Ok(())
}

/// Replays a recording and returns the outputs of all steps.
fn replay(simulator: &mut Command, recording: &Path, folder: &Path) -> Result<Vec<u8>> {
    let outputs = folder.join("outputs");
    output(simulator.arg("replay").arg(recording).arg("--outputs").arg(&outputs))?;
    fs::read(&outputs).context("outputs")
}

impl Machine {
    /// Builds for this kind of board; returns the folder of the programs.
    fn build(&self) -> Result<PathBuf> {
        install(self.qemu, "--version", &["qemu-user-static"])?;
        install(self.gcc, "--version", &self.packages)?;
        let toolchain = Toolchain::find(self.target)?;
        let folder = run::target().join("cross");
        let variable = self.target.to_uppercase().replace('-', "_");
        let mut build = toolchain.cargo("std,panic_abort", &["build", "--locked", "--release"]);
        build
            .args(["-q", "-p", "wanctl", "-p", "wanctl-sim", "--target", self.target])
            .env("CARGO_TARGET_DIR", &folder)
            .env(format!("CARGO_TARGET_{variable}_LINKER"), self.gcc)
            // Static programs run on any distribution of the board.
            .env(format!("CARGO_TARGET_{variable}_RUSTFLAGS"), "-C target-feature=+crt-static");
        run::run(&mut build)?;
        Ok(folder.join(self.target).join("release"))
    }

    fn command(&self, programs: &Path, program: &str) -> Command {
        let mut command = Command::new(self.qemu);
        command.arg(programs.join(program));
        command
    }

    /// Lets the daemon read every example.
    fn check_configs(&self, programs: &Path) -> Result<()> {
        for file in run::example_configs()? {
            let mut check = self.command(programs, "wanctl");
            output(check.args(["check", "--text-only", "--config"]).arg(&file))?;
        }
        println!("{}: wanctl reads every example", self.name);
        Ok(())
    }

    /// Plays the demo there, recorded, and replays the recording here.
    fn play(&self, programs: &Path, ours: &Path, folder: &Path) -> Result<()> {
        let recording = folder.join(format!("{}.trace", self.name));
        if recording.exists() {
            fs::remove_file(&recording)?;
        }
        let mut demo = self.command(programs, "wanctl-sim");
        demo.current_dir(root()).args(["demo", "--seconds", DEMO_SECONDS, "--record"]);
        output(demo.arg(&recording))?;
        let told = output(Command::new(ours).arg("replay").arg(&recording))?;
        let identical = told.lines().find(|line| line.starts_with("identical"));
        println!("{}: its demo, replayed here: {}", self.name, identical.unwrap_or("different"));
        Ok(())
    }
}
