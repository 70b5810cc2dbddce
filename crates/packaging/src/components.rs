//! The third-party components of the programs: every crate linked into them, including the pages' crates, the weights,
//! and their licences.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId, TargetKind};
use serde_json::{Value, json};
use spdx::{Expression, LicenseId, ParseMode};
use uuid::Uuid;
use xtask::{packages::WEB_CRATES, run::root};

use crate::{
    programs::Program,
    release::{REPOSITORY, Release},
};

/// The crates of the programs.
pub(crate) struct Components {
    metadata: Metadata,
    /// SHA-256 of each crate in its registry, by name and version.
    checksums: BTreeMap<(String, String), String>,
}

/// A linked package, and the linked packages that it depends on.
struct Linked<'a> {
    package: &'a Package,
    needs: Vec<&'a Package>,
}

/// Features that cargo has to resolve to find everything in a released program.
const FEATURES: [&str; 2] = ["chaarfm-worker-web/cpu", "chaarfm-worker-web/gpu"];

/// Prefixes of licence files, in capitals.
const LICENCE_FILES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"];

/// Largest licence file, in bytes; larger ones bundle the licences of other programs.
const MAX_LICENCE_BYTES: u64 = 200_000;

impl Components {
    /// The crates that cargo resolves, for all systems.
    pub(crate) fn of_the_workspace() -> anyhow::Result<Components> {
        let mut command = MetadataCommand::new();
        command.current_dir(root());
        command.features(cargo_metadata::CargoOpt::SomeFeatures(FEATURES.map(str::to_owned).to_vec()));
        command.other_options(vec!["--locked".to_owned()]);
        let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock"))?.parse()?;
        let text = |package: &toml::Value, key: &str| package.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        let packages = lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock lists no packages")?;
        let checksums = packages.iter().filter_map(|package| {
            Some(((text(package, "name")?, text(package, "version")?), text(package, "checksum")?))
        });
        Ok(Components { checksums: checksums.collect(), metadata: command.exec()? })
    }

    /// The licence texts of everything in any of the programs; each text once, with the names of its components.
    pub(crate) fn licences(&self, release: &Release) -> anyhow::Result<String> {
        let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for Linked { package, .. } in self.linked(&everything())? {
            if package.source.is_none() {
                continue;
            }
            for text in terms(package)? {
                let licence = expression(package)?.unwrap_or_else(|| "its own terms".to_owned());
                let name = format!("{} {} ({licence})", package.name, package.version);
                texts.entry(text).or_default().insert(name);
            }
        }
        let weights = fs::read_to_string(root().join("models/LICENSE"))?;
        texts.entry(plain(&weights)).or_default().insert("the weights of MusicNN (ISC)".to_owned());
        let mut all = format!(
            "ChaarFM {} is made of what follows as well, each part under its own terms. The pages use the system's fonts; \
             none are included.\n",
            release.version
        );
        // Sorted by name instead of text, so that readers find a component.
        let mut texts: Vec<_> = texts.into_iter().map(|(text, names)| (names, text)).collect();
        texts.sort();
        for (names, text) in texts {
            let names: Vec<_> = names.into_iter().collect();
            all.push_str(&format!("\n{}\n{}\n\n{text}", "=".repeat(80), names.join("\n")));
        }
        Ok(all)
    }

    /// Writes a list of components for each program, in CycloneDX 1.5.
    pub(crate) fn write_lists(&self, release: &Release) -> anyhow::Result<()> {
        for program in [Program::Worker, Program::Server] {
            let mut roots = vec![program.package()];
            if program == Program::Server {
                roots.extend(WEB_CRATES);
            }
            let list = serde_json::to_vec_pretty(&self.list(program, &roots, release)?)?;
            release.write(&release.file(program.name(), ".cdx.json"), list)?;
        }
        Ok(())
    }

    fn list(&self, program: Program, roots: &[&str], release: &Release) -> anyhow::Result<Value> {
        let linked = self.linked(roots)?;
        let reference = |package: &Package| format!("pkg:cargo/{}@{}", package.name, package.version);
        let mut components = Vec::new();
        let mut dependencies = Vec::new();
        for Linked { package, needs } in &linked {
            let mut component = json!({
                "type": "library",
                "bom-ref": reference(package),
                "name": package.name,
                "version": package.version,
                "licenses": match expression(package)? {
                    Some(licence) => json!([{ "expression": licence }]),
                    None => json!([{ "license": { "name": format!("terms of {}", package.name) } }]),
                },
                "purl": reference(package),
            });
            let key = (package.name.to_string(), package.version.to_string());
            if let Some(checksum) = self.checksums.get(&key) {
                component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
            }
            components.push(component);
            let needs: BTreeSet<_> = needs.iter().map(|package| reference(package)).collect();
            dependencies.push(json!({ "ref": reference(package), "dependsOn": needs }));
        }
        let models: Value = serde_json::from_str(&fs::read_to_string(root().join("models/manifest.json"))?)?;
        let mut weights = Vec::new();
        for model in models.as_array().context("models/manifest.json is a list")? {
            let name = model["name"].as_str().context("a model has a name")?;
            weights.push(name.to_owned());
            components.push(json!({
                "type": "machine-learning-model",
                "bom-ref": name,
                "name": name,
                "version": model["version"],
                "licenses": [{ "license": { "id": model["licence"] } }],
                "hashes": [{ "alg": "SHA-256", "content": model["sha256"] }],
            }));
        }
        let whole = format!("pkg:github/chaarfm/chaarfm-worker@v{}#{}", release.version, program.name());
        let first = linked.iter().map(|linked| linked.package).filter(|package| roots.contains(&&**package.name));
        let first = first.map(reference);
        dependencies.push(json!({ "ref": whole, "dependsOn": first.chain(weights).collect::<Vec<_>>() }));
        Ok(json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "serialNumber": Uuid::new_v5(&Uuid::NAMESPACE_URL, whole.as_bytes()).urn().to_string(),
            "version": 1,
            "metadata": {
                "timestamp": format!("{}T00:00:00Z", release.day()),
                "component": {
                    "type": "application",
                    "bom-ref": whole,
                    "name": program.name(),
                    "version": release.version,
                    "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                    "externalReferences": [{ "type": "vcs", "url": REPOSITORY }],
                },
            },
            "components": components,
            "dependencies": dependencies,
        }))
    }

    /// The packages linked into the named ones, including themselves, by name and version. Without build-time
    /// dependencies, whose code is not in the programs.
    fn linked(&self, roots: &[&str]) -> anyhow::Result<Vec<Linked<'_>>> {
        let packages: BTreeMap<&PackageId, &Package> = self.metadata.packages.iter().map(|p| (&p.id, p)).collect();
        let resolve = self.metadata.resolve.as_ref().context("cargo resolved nothing")?;
        let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
        let mut waiting: Vec<_> = packages.values().copied().filter(|p| roots.contains(&&**p.name)).collect();
        if waiting.len() != roots.len() {
            bail!("the workspace lacks one of {}", roots.join(", "));
        }
        let mut linked = BTreeMap::new();
        while let Some(package) = waiting.pop() {
            if linked.contains_key(&package.id) {
                continue;
            }
            let needs: Vec<_> = nodes[&package.id]
                .deps
                .iter()
                .filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal))
                .map(|dependency| packages[&dependency.pkg])
                .filter(|package| !is_macro(package))
                .collect();
            waiting.extend(&needs);
            linked.insert(&package.id, Linked { package, needs });
        }
        // Not sorted by ids, because these contain folders of this machine.
        let mut linked: Vec<_> = linked.into_values().collect();
        linked.sort_by_key(|Linked { package, .. }| (package.name.to_string(), package.version.clone()));
        Ok(linked)
    }
}

/// The crates of all programs.
fn everything() -> Vec<&'static str> {
    [Program::Worker.package(), Program::Server.package()].into_iter().chain(WEB_CRATES).collect()
}

fn is_macro(package: &Package) -> bool {
    package.targets.iter().any(|target| target.kind.contains(&TargetKind::ProcMacro))
}

/// The licence as an SPDX expression; none if the manifest names only a licence file.
fn expression(package: &Package) -> anyhow::Result<Option<String>> {
    let Some(licence) = &package.license else { return Ok(None) };
    // Cargo's old separator.
    let licence = licence.replace('/', " OR ").split_whitespace().collect::<Vec<_>>().join(" ");
    let canonical = Expression::canonicalize(&licence).with_context(|| format!("the licence of {}", package.name))?;
    Ok(Some(canonical.unwrap_or(licence)))
}

/// The licence texts in a package's folder, or else SPDX's texts of the licences in its manifest.
fn terms(package: &Package) -> anyhow::Result<Vec<String>> {
    let folder = package.manifest_path.parent().context("a manifest lies in a folder")?;
    let mut texts = Vec::new();
    let mut files: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    for file in files {
        let name = file.file_name().to_string_lossy().to_uppercase();
        let metadata = file.metadata()?;
        if metadata.is_file()
            && metadata.len() <= MAX_LICENCE_BYTES
            && LICENCE_FILES.iter().any(|start| name.starts_with(start))
        {
            texts.push(plain(&read(&file.path())?));
        }
    }
    if texts.is_empty() {
        let nameless = || format!("{} {} names no licence and has no terms", package.name, package.version);
        let expression = Expression::parse_mode(&expression(package)?.with_context(nameless)?, ParseMode::LAX)?;
        let licences: BTreeSet<LicenseId> = expression.requirements().filter_map(|r| r.req.license.id()).collect();
        let authors =
            if package.authors.is_empty() { String::new() } else { format!("{}\n\n", package.authors.join("\n")) };
        texts.extend(licences.into_iter().map(|licence| format!("{authors}{}", plain(licence.text()))));
    }
    if texts.is_empty() {
        bail!("{} {} has no terms", package.name, package.version);
    }
    Ok(texts)
}

fn read(file: &Path) -> anyhow::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(file)?).into_owned())
}

/// Removes differences between copies of a text: line ends and whitespace around lines.
fn plain(text: &str) -> String {
    let lines: Vec<_> = text.trim_start_matches('\u{feff}').lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n").trim_matches('\n'))
}
