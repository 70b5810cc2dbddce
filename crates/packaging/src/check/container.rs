//! Unpacks the images and runs them as configured: with their user, and write access only to the data folder and a
//! temporary one.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use xtask::run::program;

use crate::{
    check::{
        FIXTURES, HERE, fixture,
        session::{Running, Session, wait_for},
    },
    container::{DATA, USER, image},
    programs::Program,
    release::Release,
};

/// Port of the coordinator.
const PORT: u16 = 18_091;

/// Folders that container engines create as mount points.
const MOUNTS: [&str; 4] = ["dev", "music", "proc", "tmp"];

/// An unpacked image.
struct Image {
    root: PathBuf,
    config: Value,
}

/// Checks both images.
pub(super) fn check(release: &Release) -> anyhow::Result<()> {
    let server = Image::unpack(release, Program::Server)?;
    let worker = Image::unpack(release, Program::Worker)?;
    for image in [&server, &worker] {
        if image.config["User"] != format!("{USER}:{USER}") {
            bail!("an image runs as {}", image.config["User"]);
        }
    }
    if server.config["Healthcheck"]["Test"] != json!(["CMD", "/chaarfm-server", "healthcheck"]) {
        bail!("the image has the health check {}", server.config["Healthcheck"]);
    }
    let music = release.work("check-container-music")?;
    for name in FIXTURES {
        fs::copy(fixture(name), music.join(name))?;
    }
    let listen = format!("127.0.0.1:{PORT}");
    let arguments = ["--listen", &listen, "--data", "/data", "--library", "/music"];
    let mut command = server.command(&server.words("Entrypoint")?, Some(&music));
    let _coordinator = Running::start(command.args(arguments))?;
    let check = server.words("Entrypoint")?;
    wait_for("a healthy container", || {
        let mut command = server.command(&check, None);
        Ok(command.args(["healthcheck", "--address", &listen]).output()?.status.success())
    })?;
    let session = Session::start(PORT, "music", server.command(&check, None).args(["--data", "/data"]))?;
    let mut command = worker.command(&worker.words("Entrypoint")?, None);
    command.args(["--url", session.coordinator(), "--code", &session.code, "--device", "flex", "--log", "info"]);
    let _worker = Running::start(&mut command)?;
    session.finish()
}

impl Image {
    fn unpack(release: &Release, program: Program) -> anyhow::Result<Image> {
        let folder = release.work(&format!("check-{}-image", program.name()))?;
        tar::Archive::new(GzDecoder::new(File::open(image(release, program, HERE))?)).unpack(&folder)?;
        let manifest = read(&folder.join("manifest.json"))?;
        let file = |name: &Value| name.as_str().map(|name| folder.join(name)).context("the image names its files");
        let root = folder.join("root");
        fs::create_dir_all(&root)?;
        for layer in manifest[0]["Layers"].as_array().context("the image has layers")? {
            tar::Archive::new(File::open(file(layer)?)?).unpack(&root)?;
        }
        let config = read(&file(&manifest[0]["Config"])?)?["config"].clone();
        for place in MOUNTS {
            fs::create_dir_all(root.join(place))?;
        }
        Ok(Image { root, config })
    }

    /// A list of strings in the image's configuration.
    fn words(&self, name: &str) -> anyhow::Result<Vec<String>> {
        serde_json::from_value(self.config[name].clone()).with_context(|| format!("the image's {name}"))
    }

    /// A command in the container: a read-only root, an unprivileged user, and this machine's network.
    fn command(&self, words: &[String], music: Option<&Path>) -> Command {
        let user = USER.to_string();
        let mut command = program("bwrap", &["--unshare-user", "--unshare-pid", "--die-with-parent"]);
        command.args(["--uid", &user, "--gid", &user, "--cap-drop", "ALL", "--clearenv", "--setenv", "HOME", "/data"]);
        command.arg("--ro-bind").arg(&self.root).arg("/");
        command.arg("--bind").arg(self.root.join(DATA)).arg("/data");
        command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
        if let Some(music) = music {
            command.arg("--ro-bind").arg(music).arg("/music");
        }
        command.args(words);
        command
    }
}

fn read(file: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}
