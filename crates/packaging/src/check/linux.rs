//! Checks the tarball in the oldest Debian, the `.deb` packages in current ones with systemd, and the `.rpm` packages.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use object::{Object, ObjectSection};
use xtask::{
    run::{output, program, run, target_dir},
    tools,
};

use crate::{
    check::{FIXTURES, HERE, compare_vectors, fixture, tells_no_path},
    linux::system,
    programs::{GLIBC, Machine, Program},
    release::Release,
};

/// Debian 11, against whose C library the programs are linked.
const OLDEST: &str = "bullseye";

/// Debian 12 and 13.
const CURRENT: [&str; 2] = ["bookworm", "trixie"];

/// Packages that a Debian needs to run services.
const WITH_SYSTEMD: &str = "--include=systemd,systemd-sysv,dbus,ca-certificates";

/// Required Debian packages: to make other Debians, boot their systemd, read `.rpm`, isolate; then to run the other
/// processor's programs.
const PACKAGES: [&str; 4] = ["debootstrap", "systemd-container", "rpm", "bubblewrap"];
const PACKAGES_ARM64: [&str; 2] = ["qemu-user", "libc6-arm64-cross"];

/// Debian's mirror for debootstrap.
const ARCHIVE: &str = "http://deb.debian.org/debian";

/// Longest run of a booted Debian, in seconds.
const BOOTED_SECONDS: &str = "300";

/// Checks tarball, `.deb` and `.rpm`.
pub(super) fn check(release: &Release) -> anyhow::Result<()> {
    let has = |program: &str| output(program, &["--version"]).is_some();
    if !(has("debootstrap") && has("systemd-nspawn") && has("rpm") && has("bwrap")) {
        tools::install_packages(&PACKAGES)?;
    }
    tarball(release)?;
    rpm(release)?;
    for debian in CURRENT {
        deb(release, debian)?;
    }
    Ok(())
}

/// Runs the executables in the tarballs for the other processor by qemu.
pub(super) fn check_arm64(release: &Release) -> anyhow::Result<()> {
    if output("qemu-aarch64", &["--version"]).is_none() {
        tools::install_packages(&PACKAGES_ARM64)?;
    }
    let folder = release.work("check-arm64")?;
    let qemu = |executable: &Path| {
        let mut command = program("qemu-aarch64", &["-L", "/usr/aarch64-linux-gnu"]);
        command.arg(executable);
        command
    };
    let worker = unpack(release, Program::Worker, Machine::Arm64, &folder)?;
    compare_vectors(&printed(
        qemu(&worker).args(["analyze", "--json", "--device", "flex"]).args(FIXTURES.map(fixture)),
    )?)?;
    let server = unpack(release, Program::Server, Machine::Arm64, &folder)?;
    run(qemu(&server).arg("--version"))
}

/// Unpacks a program's tarball and returns the executable, after checking that it runs on the oldest Debian and
/// contains no build path.
pub(super) fn unpack(release: &Release, program: Program, machine: Machine, into: &Path) -> anyhow::Result<PathBuf> {
    let file = release.file(program.name(), &format!("{}.tar.xz", system(machine)));
    run(self::program("tar", &["--extract", "--file"]).arg(&file).arg("--directory").arg(into))?;
    let executable = into.join(release.file_name(program.name(), &system(machine))).join(program.name());
    let bytes = fs::read(&executable)?;
    let newest = newest_glibc(&bytes)?;
    println!("{} needs glibc {}.{}", executable.display(), newest.0, newest.1);
    if format!("{}.{}", newest.0, newest.1) != GLIBC && newest > (2, 31) {
        bail!("{} needs a glibc newer than {GLIBC}", executable.display());
    }
    if !release.development {
        tells_no_path(program.name(), &bytes)?;
    }
    Ok(executable)
}

/// The newest version of the C library that an executable requires.
fn newest_glibc(executable: &[u8]) -> anyhow::Result<(u32, u32)> {
    let file = object::File::parse(executable)?;
    let names = file.section_by_name(".dynstr").context("a program has names of symbols")?.data()?;
    let versions = names.split(|byte| *byte == 0).filter_map(|name| {
        let version = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?;
        let mut numbers = version.split('.').map_while(|number| number.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    });
    versions.max().context("the program needs no version of the C library at all")
}

/// A Debian in a folder, built once and copied for each check.
fn debian(release: &Release, name: &str, with_systemd: bool) -> anyhow::Result<PathBuf> {
    let made = target_dir().join("tools").join(format!("debian-{name}{}", if with_systemd { "-systemd" } else { "" }));
    if !made.exists() {
        let unfinished = release.work("debootstrap")?;
        let mut command = program("debootstrap", &["--variant=minbase"]);
        if with_systemd {
            command.arg(WITH_SYSTEMD);
        }
        run(command.arg(name).arg(&unfinished).arg(ARCHIVE))?;
        fs::rename(unfinished, &made)?;
    }
    let copy = release.work(&format!("check-{name}"))?;
    run(program("cp", &["--archive"]).arg(made.join(".")).arg(&copy))?;
    Ok(copy)
}

/// A command in a Debian.
fn inside(root: &Path, words: &[&str]) -> Command {
    let mut command = program("chroot", &[]);
    command.arg(root).args(words);
    command
}

/// Copies the files to analyse into a Debian, and returns their paths there.
fn add_music(root: &Path) -> anyhow::Result<Vec<String>> {
    let music = root.join("srv/music");
    fs::create_dir_all(&music)?;
    for name in FIXTURES {
        fs::copy(fixture(name), music.join(name))?;
    }
    Ok(FIXTURES.iter().map(|name| format!("/srv/music/{name}")).collect())
}

fn tarball(release: &Release) -> anyhow::Result<()> {
    let root = debian(release, OLDEST, false)?;
    let music = add_music(&root)?;
    let path = |executable: PathBuf| anyhow::Ok(format!("/{}", executable.strip_prefix(&root)?.display()));
    let worker = path(unpack(release, Program::Worker, HERE, &root)?)?;
    let server = path(unpack(release, Program::Server, HERE, &root)?)?;
    compare_vectors(&printed(inside(&root, &[&worker, "analyze", "--json", "--device", "flex"]).args(&music))?)?;
    run(&mut inside(&root, &[&server, "--version"]))
}

fn rpm(release: &Release) -> anyhow::Result<()> {
    let root = debian(release, OLDEST, false)?;
    let music = add_music(&root)?;
    let rpm = |words: &[&str]| {
        let mut command = program("rpm", &["--root"]);
        command.arg(&root).args(words);
        command
    };
    for program in [Program::Server, Program::Worker] {
        let file = release.file(program.name(), &format!("{}.rpm", system(HERE)));
        run(rpm(&["--query", "--info", "--requires", "--recommends", "--scripts", "--list", "--package"]).arg(&file))?;
        run(rpm(&["--checksig"]).arg(&file))?;
        // rpm does not see Debian's own C library, hence `--nodeps`.
        run(rpm(&["--install", "--nodeps"]).arg(&file))?;
        run(&mut rpm(&["--verify", "--nodeps", program.name()]))?;
        run(&mut inside(&root, &[program.name(), "--version"]))?;
    }
    let worker = Program::Worker.name();
    compare_vectors(&printed(inside(&root, &[worker, "analyze", "--json", "--device", "flex"]).args(music))?)?;
    run(&mut rpm(&["--erase", Program::Server.name(), Program::Worker.name()]))?;
    let left = printed(program("find", &[]).arg(&root).args(["-name", "chaarfm-*"]))?;
    if !left.trim().is_empty() {
        bail!("rpm left behind {left}");
    }
    Ok(())
}

/// Boots a Debian that installs the packages, lets the services finish a session, and purges the packages.
fn deb(release: &Release, name: &str) -> anyhow::Result<()> {
    let root = debian(release, name, true)?;
    add_music(&root)?;
    fs::write(root.join("check.sh"), include_str!("debian.sh"))?;
    let unit = "[Unit]\nAfter=multi-user.target\nSuccessAction=poweroff-force\nFailureAction=poweroff-force\n\
        [Service]\nType=oneshot\nExecStart=/bin/bash /check.sh\nStandardOutput=file:/check.log\nStandardError=file:/check.log\n";
    fs::write(root.join("etc/systemd/system/check.service"), unit)?;
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    run(program("ln", &["-s", "../check.service"]).arg(wants.join("check.service")))?;
    // Mounts only the unified cgroup hierarchy: systemd no longer supports the legacy one. The network is this
    // machine's.
    let mut command =
        program("timeout", &[BOOTED_SECONDS, "systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--boot"]);
    command.arg("--directory").arg(&root).arg(format!("--bind-ro={}:/release", release.folder().display()));
    command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1").stdin(std::process::Stdio::null());
    command.stdout(File::create(release.work("check-boot")?.join("console"))?);
    run(&mut command)?;
    let log = fs::read_to_string(root.join("check.log")).with_context(|| format!("{name} did not boot"))?;
    println!("{log}");
    if !log.ends_with("passed\n") {
        bail!("the packages failed on {name}");
    }
    Ok(())
}

/// The output of a command.
pub(super) fn printed(command: &mut Command) -> anyhow::Result<String> {
    println!("$ {}", xtask::run::describe(command));
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{}: {}", xtask::run::describe(command), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}
