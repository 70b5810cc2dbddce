//! Linux: tarballs, `.deb`, `.rpm`, and container images with the same executables.

use std::{fs, path::Path};

use anyhow::Context;
use rpm::{BuildConfig, CompressionWithLevel, Dependency, FileOptions, PackageBuilder};
use xtask::run::{self, run, step};

use crate::{
    container, icons,
    programs::{self, GLIBC, Machine, Program},
    release::{REPOSITORY, Release},
    template::{self, Values},
    tree::{Entry, Tree},
};

/// Maintainer of the packages.
const MAINTAINER: &str = "The ChaarFM developers <chaarfm@users.noreply.github.com>";

/// The worker's application id on desktops.
pub(crate) const DESKTOP_ID: &str = "com.chaarfm.Worker";

/// The scripts that run at a package's installation and removal.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// xz's level in packages; higher levels would need too much memory in the installers.
const XZ_LEVEL: u32 = 9;

/// Makes everything for a processor.
pub(crate) fn make(release: &Release, machine: Machine) -> anyhow::Result<()> {
    for program in [Program::Worker, Program::Server] {
        let executable = programs::read(&programs::for_linux(release, program, machine)?)?;
        step(&format!("{}: tarball, .deb, .rpm and container for {}", program.name(), machine.name()));
        let values = values(release, program, machine);
        tarball(release, program, machine, &executable, &values)?;
        let installed = installed(release, program, executable.clone(), &values)?;
        deb(release, program, machine, &installed, &values)?;
        rpm(release, program, machine, &installed, &values)?;
        container::make(release, program, machine, executable)?;
    }
    Ok(())
}

/// The system's part of a file name.
pub(crate) fn system(machine: Machine) -> String {
    format!("linux-{}", machine.name())
}

fn values(release: &Release, program: Program, machine: Machine) -> Values {
    let mut values = release.values();
    values.insert("NAME", program.name().to_owned());
    values.insert("SUMMARY", program.summary().to_owned());
    values.insert("ARCHITECTURE", machine.debian().to_owned());
    values.insert("GLIBC", GLIBC.to_owned());
    values.insert("MAINTAINER", MAINTAINER.to_owned());
    values
}

/// Makes a tarball, which can be unpacked anywhere.
fn tarball(
    release: &Release,
    program: Program,
    machine: Machine,
    executable: &[u8],
    values: &Values,
) -> anyhow::Result<()> {
    let folder = release.file_name(program.name(), &system(machine));
    let mut tree = Tree::default();
    tree.add_executable(format!("{folder}/{}", program.name()), executable);
    add_texts(&mut tree, &folder, release)?;
    if program == Program::Worker {
        add_desktop(&mut tree, &folder, values)?;
    }
    tree.tar_xz(release, machine, &release.file(program.name(), &format!("{}.tar.xz", system(machine))))
}

/// Adds licences and the changelog.
pub(crate) fn add_texts(tree: &mut Tree, folder: &str, release: &Release) -> anyhow::Result<()> {
    for name in ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        tree.add(format!("{folder}/{name}"), programs::text(name)?);
    }
    let others = release.file("chaarfm", "third-party-licences.txt");
    tree.add(format!("{folder}/THIRD-PARTY-LICENCES.txt"), fs::read(others)?);
    Ok(())
}

/// Adds the menu entry, the handler of join links, the icon, and the metadata for software centres.
fn add_desktop(tree: &mut Tree, share: &str, values: &Values) -> anyhow::Result<()> {
    let desktop = template::file("linux/worker.desktop", values)?;
    tree.add(format!("{share}/applications/{DESKTOP_ID}.desktop"), desktop);
    tree.add(
        format!("{share}/metainfo/{DESKTOP_ID}.metainfo.xml"),
        template::file("linux/worker.metainfo.xml", values)?,
    );
    tree.add(format!("{share}/icons/hicolor/scalable/apps/{DESKTOP_ID}.svg"), icons::svg()?);
    tree.add(format!("{share}/icons/hicolor/256x256/apps/{DESKTOP_ID}.png"), icons::png(256)?);
    Ok(())
}

/// The files that a package installs.
fn installed(release: &Release, program: Program, executable: Vec<u8>, values: &Values) -> anyhow::Result<Tree> {
    let name = program.name();
    let mut tree = Tree::default();
    tree.add_executable(format!("usr/bin/{name}"), executable);
    tree.add(
        format!("usr/lib/systemd/system/{name}.service"),
        template::file(&format!("linux/{name}.service"), values)?,
    );
    if program == Program::Worker {
        let groups = template::file("linux/chaarfm-worker.sysusers", values)?;
        tree.add(format!("usr/lib/sysusers.d/{name}.conf"), groups);
    }
    tree.add(settings(program), template::file(&format!("linux/{name}.conf"), values)?);
    add_texts(&mut tree, &format!("usr/share/doc/{name}"), release)?;
    tree.add(format!("usr/share/doc/{name}/copyright"), template::file("linux/copyright", values)?);
    if program == Program::Worker {
        add_desktop(&mut tree, "usr/share", values)?;
    }
    Ok(tree)
}

/// The file with the service's arguments, for administrators to edit.
pub(crate) fn settings(program: Program) -> String {
    format!("etc/chaarfm/{}.conf", program.name())
}

fn deb(release: &Release, program: Program, machine: Machine, installed: &Tree, values: &Values) -> anyhow::Result<()> {
    let folder = release.work("deb")?;
    installed.write_into(&folder)?;
    let mut control = Tree::default();
    control.add("DEBIAN/control", template::file(&format!("linux/{}.control", program.name()), values)?);
    control.add("DEBIAN/conffiles", format!("/{}\n", settings(program)));
    for script in SCRIPTS {
        control.add_executable(format!("DEBIAN/{script}"), template::file(&format!("linux/{script}"), values)?);
    }
    control.write_into(&folder)?;
    let file = release.file(program.name(), &format!("{}.deb", system(machine)));
    // All times are the release's, and everything belongs to root.
    let mut command = run::program("dpkg-deb", &["--root-owner-group", "-Zxz", "-z9", "-Sextreme", "--build"]);
    command.arg(&folder).arg(file).env("SOURCE_DATE_EPOCH", release.date.to_string());
    set_times(&folder, release)?;
    run(&mut command)
}

/// dpkg clamps times later than the release's but keeps earlier ones, so all times are set here.
fn set_times(folder: &Path, release: &Release) -> anyhow::Result<()> {
    let date = format!("--date=@{}", release.date);
    run(run::program("find", &[]).arg(folder).args(["-exec", "touch", "--no-dereference", &date, "{}", "+"]))
}

fn rpm(release: &Release, program: Program, machine: Machine, installed: &Tree, values: &Values) -> anyhow::Result<()> {
    let name = program.name();
    let config = BuildConfig::v4()
        .source_date(release.date)
        .compression(CompressionWithLevel::Xz(XZ_LEVEL))
        // Without space reserved for signing the package again in place.
        .reserved_space(None);
    let mut package =
        PackageBuilder::new(name, &release.version, "(MIT OR Apache-2.0) AND ISC", machine.gnu(), program.summary());
    package
        .using_config(config)
        .release("1")
        .url(REPOSITORY)
        .vendor("ChaarFM")
        .description(template::file(&format!("linux/{name}.description"), values)?)
        .requires(Dependency::any(format!("libc.so.6(GLIBC_{GLIBC})(64bit)")))
        .post_install_script(template::file("linux/rpm-post", values)?)
        .pre_uninstall_script(template::file("linux/rpm-preun", values)?)
        .post_uninstall_script(template::file("linux/rpm-postun", values)?);
    if program == Program::Worker {
        package.recommends(Dependency::any("vulkan-loader"));
    }
    for (path, entry) in installed.entries() {
        let Entry::File { bytes, executable } = entry else { continue };
        let mut options = FileOptions::new(format!("/{path}")).permissions(if *executable { 0o755 } else { 0o644 });
        if path.starts_with("etc/") {
            options = options.noreplace();
        } else if path.contains("/doc/") {
            options = options.doc();
        }
        package.with_file_contents(bytes.clone(), options)?;
    }
    // Folders used by this package only are removed with it.
    for folder in [format!("/usr/share/doc/{name}"), "/etc/chaarfm".to_owned()] {
        package.with_dir_entry(FileOptions::dir(folder).permissions(0o755))?;
    }
    let file = release.file(name, &format!("{}.rpm", system(machine)));
    package.build()?.write_file(&file).with_context(|| format!("{} cannot be written", file.display()))
}
