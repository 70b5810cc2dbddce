//! Container images of both programs: the executable, its C library, the root certificates, and nothing else. Also the
//! compose file and the Kubernetes manifests of the server.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use xtask::{
    run::{output, program, root, run},
    tools,
};

use crate::{
    linux,
    programs::{Machine, Program},
    release::Release,
    template,
    tree::Tree,
};

/// User id in the images: the customary `nonroot`.
pub(crate) const USER: u32 = 65_532;

/// The folder for persistent data.
pub(crate) const DATA: &str = "data";

/// The files of the C library that a Rust program may load.
const C_LIBRARY: [&str; 6] =
    ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libresolv.so.2"];

/// Base64 characters in a line of a certificate, by RFC 7468, section 2.
const PEM_LINE: usize = 64;

/// Makes a program's image, as an archive for `docker load` and `podman load`.
pub(crate) fn make(release: &Release, program: Program, machine: Machine, executable: Vec<u8>) -> anyhow::Result<()> {
    if output("buildah", &["--version"]).is_none() {
        tools::install_packages(&["buildah"])?;
    }
    let context = release.work("container")?;
    files(release, program, machine, executable)?.write_into(&context.join("root"))?;
    fs::create_dir_all(context.join("root").join(DATA))?;
    let mut values = release.values();
    values.insert("NAME", program.name().to_owned());
    values.insert("SUMMARY", program.summary().to_owned());
    values.insert("USER", USER.to_string());
    let recipe = context.join("Containerfile");
    fs::write(&recipe, template::file(&format!("container/{}.Containerfile", program.name()), &values)?)?;
    let tag = format!("localhost/{}:{}", program.name(), release.version);
    // A separate store in plain folders, which neither changes the system's store nor mounts anything.
    let store = release.work("container-store")?;
    let buildah = |arguments: &[&str]| {
        let mut command = self::program("buildah", &["--storage-driver", "vfs", "--root"]);
        command.arg(store.join("root")).arg("--runroot").arg(store.join("run")).args(arguments);
        command
    };
    let date = release.date.to_string();
    let platform = format!("linux/{}", machine.debian());
    // Docker's format, because OCI's has no health check.
    let build = ["build", "--format", "docker", "--timestamp", &date, "--platform", &platform, "--isolation", "chroot"];
    run(buildah(&build).args(["--quiet", "--tag", &tag, "--file"]).arg(&recipe).arg(&context))?;
    let archive = context.join("image.tar");
    run(buildah(&["push", "--quiet", &tag]).arg(format!("docker-archive:{}:{tag}", archive.display())))?;
    fs::remove_dir_all(store)?;
    let packed = fs::File::create(image(release, program, machine))?;
    let mut packed = flate2::GzBuilder::new().mtime(0).write(packed, flate2::Compression::best());
    packed.write_all(&fs::read(archive)?)?;
    packed.finish()?;
    if program == Program::Server && machine == Machine::X86_64 {
        deployments(release)?;
    }
    Ok(())
}

/// Path of the image's file.
pub(crate) fn image(release: &Release, program: Program, machine: Machine) -> PathBuf {
    release.file(program.name(), &format!("container-{}.tar.gz", machine.name()))
}

/// The files in the image.
fn files(release: &Release, program: Program, machine: Machine, executable: Vec<u8>) -> anyhow::Result<Tree> {
    let mut tree = Tree::default();
    tree.add_executable(program.name(), executable);
    tree.add("etc/passwd", format!("nonroot:x:{USER}:{USER}::/{DATA}:/sbin/nologin\n"));
    tree.add("etc/group", format!("nonroot:x:{USER}:\n"));
    tree.add("etc/nsswitch.conf", "hosts: files dns\n");
    tree.add("etc/ssl/certs/ca-certificates.crt", roots_of_trust());
    add_c_library(&mut tree, machine)?;
    linux::add_texts(&mut tree, "licences", release)?;
    Ok(tree)
}

/// Mozilla's root certificates from the crate in `Cargo.lock`, so that they do not depend on the machine.
fn roots_of_trust() -> String {
    let mut text = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = base64(certificate);
        for line in encoded.as_bytes().chunks(PEM_LINE) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Adds Debian's C library: this machine's own, or the cross-compilation package of the other processor.
fn add_c_library(tree: &mut Tree, machine: Machine) -> anyhow::Result<()> {
    let (folder, loader, package) = match machine {
        Machine::X86_64 => ("/lib/x86_64-linux-gnu", "lib64/ld-linux-x86-64.so.2", "libc6"),
        Machine::Arm64 => ("/usr/aarch64-linux-gnu/lib", "lib/ld-linux-aarch64.so.1", "libc6-arm64-cross"),
    };
    let folder = Path::new(folder);
    if !folder.exists() {
        tools::install_packages(&[package])?;
    }
    let loader_name = loader.rsplit('/').next().unwrap_or(loader);
    tree.add_executable(loader, library(&folder.join(loader_name))?);
    for name in C_LIBRARY {
        tree.add_executable(format!("lib/{}-linux-gnu/{name}", machine.gnu()), library(&folder.join(name))?);
    }
    let terms = Path::new("/usr/share/doc").join(package).join("copyright");
    tree.add("licences/glibc.txt", fs::read(&terms).with_context(|| format!("{} is missing", terms.display()))?);
    Ok(())
}

fn library(file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("{} is missing: images are built on Debian", file.display()))
}

/// Packs the compose file and the Kubernetes manifests into an archive each.
fn deployments(release: &Release) -> anyhow::Result<()> {
    for name in ["compose", "kubernetes"] {
        let folder = release.file_name("chaarfm", name);
        let mut tree = Tree::default();
        add_filled(&mut tree, &folder, &format!("container/{name}"), release)?;
        tree.tar_xz(release, Machine::Arm64, &release.file("chaarfm", &format!("{name}.tar.xz")))?;
    }
    Ok(())
}

/// Adds every file of a folder of templates.
pub(crate) fn add_filled(tree: &mut Tree, path: &str, templates: &str, release: &Release) -> anyhow::Result<()> {
    for entry in fs::read_dir(root().join("packaging").join(templates))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a template has a name in UTF-8")?;
        let template = format!("{templates}/{name}");
        if entry.file_type()?.is_dir() {
            bail!("{template}: there are no folders in there");
        }
        tree.add(format!("{path}/{name}"), template::file(&template, &release.values())?);
    }
    Ok(())
}
