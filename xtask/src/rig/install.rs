//! What the rig needs: Debian packages, an unpacked user-mode Linux, and the shim that lets it start.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fmt, fs};

use anyhow::{Context as _, Result, bail, ensure};

use crate::run::{self, install_packages, output, root, target};

/// Programs that the guest runs, with the argument that makes each end at once and its package.
const PROGRAMS: [(&str, &str, &str); 8] = [
    ("tc", "-V", "iproute2"),
    ("iperf3", "-v", "iperf3"),
    ("fping", "-v", "fping"),
    ("ethtool", "--version", "ethtool"),
    ("modprobe", "-V", "kmod"),
    ("busybox", "true", "busybox-static"),
    ("sysctl", "-V", "procps"),
    ("cc", "--version", "gcc"),
];
/// Where Debian has programs that not every user's `PATH` names.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const PACKAGE: &str = "user-mode-linux";

/// The rig cannot be used on this machine, through no fault of the project's.
#[derive(Debug)]
pub(crate) struct Unavailable(pub(crate) String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// A user-mode Linux that is ready to start.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) kernel: PathBuf,
    /// A folder with `lib/modules`.
    pub(crate) modules: PathBuf,
    pub(crate) shim: PathBuf,
    /// The folder of `init.sh`.
    pub(crate) scripts: PathBuf,
}

/// Installs and builds what is not there yet.
pub(crate) fn prepare() -> Result<Guest> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the rig boots Debian's user-mode Linux, which is there for x86-64 Linux only"
    );
    install_programs()?;
    let folder = target().join("rig");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let unpacked = folder.join("uml");
    if !unpacked.join("usr/bin/linux.uml").exists() {
        unpack_kernel(&folder, &unpacked)?;
    }
    let modules = unpacked.join("modules");
    if !modules.exists() {
        fs::create_dir_all(modules.join("lib"))?;
        symlink("../../usr/lib/uml/modules", modules.join("lib/modules"))?;
    }
    let guest = Guest {
        kernel: unpacked.join("usr/bin/linux.uml"),
        modules,
        shim: folder.join("umlshim.so"),
        scripts: root().join("xtask/rig"),
    };
    guest.build_shim()?;
    for path in [&guest.modules, &guest.scripts] {
        // These go through the guest kernel's command line.
        let text = path.to_string_lossy();
        ensure!(
            !text.contains(char::is_whitespace),
            "the rig cannot use a path with blanks: {text}"
        );
    }
    Ok(guest)
}

fn install_programs() -> Result<()> {
    let is_there = |program: &str| FOLDERS.iter().any(|dir| Path::new(dir).join(program).exists());
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(p, ..)| !is_there(p)).map(|(_, _, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    eprintln!("the rig needs {wanted}; installing");
    install_packages(&missing).with_context(|| {
        Unavailable(format!(
            "the rig's programs are missing and cannot be installed; as root, with a Debian mirror in \
             reach: apt-get install {wanted}"
        ))
    })
}

/// Fetches the package of the kernel and takes its files; it is not installed.
fn unpack_kernel(folder: &Path, unpacked: &Path) -> Result<()> {
    eprintln!("the rig needs Debian's {PACKAGE}; downloading 41 MB");
    let fetched = folder.join("package");
    // Whatever an interrupted attempt has left behind.
    let _nothing_there = fs::remove_dir_all(&fetched);
    let _nothing_there = fs::remove_dir_all(unpacked);
    fs::create_dir_all(&fetched)?;
    let download = || {
        let mut command = Command::new("apt-get");
        // apt's own user need not be able to write here.
        command.current_dir(&fetched).args([
            "-qq",
            "-o",
            "APT::Sandbox::User=root",
            "download",
            PACKAGE,
        ]);
        command.stdout(Stdio::null());
        run::run(&mut command)
    };
    let update = || run::run(Command::new("apt-get").args(["update", "-qq"]).stdout(Stdio::null()));
    // The lists on this machine may be old, or not there at all.
    download().or_else(|_| update().and_then(|()| download())).with_context(|| {
        Unavailable(format!(
            "the package {PACKAGE} cannot be fetched: the rig boots Debian's user-mode Linux (bookworm: 6.1). \
             Give apt a mirror that has it, or unpack the package to {}",
            unpacked.display()
        ))
    })?;
    let is_package = |path: &PathBuf| path.extension() == Some(OsStr::new("deb"));
    let entries = fs::read_dir(&fetched)?.filter_map(|entry| Some(entry.ok()?.path()));
    let Some(package) = entries.into_iter().find(is_package) else {
        bail!("apt-get has downloaded nothing to {}", fetched.display())
    };
    let partly = folder.join("uml.partly");
    let _nothing_there = fs::remove_dir_all(&partly);
    output(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&partly))?;
    fs::rename(&partly, unpacked)?;
    fs::remove_dir_all(&fetched)?;
    Ok(())
}

impl Guest {
    /// Compiles the shim unless it is newer than its source.
    fn build_shim(&self) -> Result<()> {
        let source = self.scripts.join("umlshim.c");
        let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
        if changed(&self.shim) > changed(&source) {
            return Ok(());
        }
        let mut compile = Command::new("cc");
        compile.args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]);
        output(compile.arg(&self.shim).arg(&source).arg("-ldl")).map(drop)
    }
}
