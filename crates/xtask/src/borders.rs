//! Allowed dependencies between crates, as described in ARCHITECTURE.md; `cargo xtask lint` enforces them.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::run;

/// The workspace crates that each crate may use, tests included.
const INSIDE: [(&str, &[&str]); 21] = [
    ("chaarfm-analysis", &["chaarfm-models"]),
    ("chaarfm-api", &["chaarfm-domain"]),
    ("chaarfm-bindgen", &[]),
    ("chaarfm-config", &[]),
    ("chaarfm-coordinator", &["chaarfm-domain", "chaarfm-protocol"]),
    ("chaarfm-doctor", &["chaarfm-protocol"]),
    ("chaarfm-domain", &[]),
    ("chaarfm-models", &[]),
    ("chaarfm-packaging", &["xtask"]),
    ("chaarfm-protocol", &["chaarfm-domain"]),
    ("chaarfm-scratch", &[]),
    (
        "chaarfm-server",
        &[
            "chaarfm-analysis",
            "chaarfm-api",
            "chaarfm-config",
            "chaarfm-coordinator",
            "chaarfm-doctor",
            "chaarfm-domain",
            "chaarfm-models",
            "chaarfm-protocol",
            "chaarfm-scratch",
            "chaarfm-sources",
            "chaarfm-store",
            "chaarfm-test-postgres",
        ],
    ),
    ("chaarfm-sources", &["chaarfm-domain", "chaarfm-scratch"]),
    ("chaarfm-store", &["chaarfm-coordinator", "chaarfm-domain", "chaarfm-models", "chaarfm-test-postgres"]),
    ("chaarfm-test-postgres", &[]),
    (
        "chaarfm-tests",
        &[
            "chaarfm-analysis",
            "chaarfm-api",
            "chaarfm-coordinator",
            "chaarfm-domain",
            "chaarfm-models",
            "chaarfm-protocol",
            "chaarfm-test-postgres",
            "chaarfm-worker",
        ],
    ),
    ("chaarfm-web", &["chaarfm-api", "chaarfm-domain", "chaarfm-protocol", "chaarfm-worker", "chaarfm-worker-web"]),
    ("chaarfm-worker", &["chaarfm-analysis", "chaarfm-domain", "chaarfm-models", "chaarfm-protocol"]),
    (
        "chaarfm-worker-native",
        &[
            "chaarfm-analysis",
            "chaarfm-config",
            "chaarfm-doctor",
            "chaarfm-domain",
            "chaarfm-models",
            "chaarfm-protocol",
            "chaarfm-scratch",
            "chaarfm-worker",
        ],
    ),
    (
        "chaarfm-worker-web",
        &["chaarfm-analysis", "chaarfm-domain", "chaarfm-models", "chaarfm-protocol", "chaarfm-worker"],
    ),
    ("xtask", &["chaarfm-test-postgres"]),
];

/// For crates that only decide or describe, the only external crates they may use: no sockets, no runtime, no database.
const OUTSIDE: [(&str, &[&str]); 5] = [
    ("chaarfm-api", &["serde", "utoipa"]),
    ("chaarfm-coordinator", &["serde", "thiserror"]),
    ("chaarfm-domain", &["half", "serde", "thiserror", "utoipa"]),
    ("chaarfm-models", &["serde", "serde_json"]),
    ("chaarfm-protocol", &["base64", "half", "serde", "serde_json", "thiserror"]),
];

/// Compares every crate's manifest with the tables.
///
/// # Errors
/// When a crate has a forbidden dependency, or a table is out of date.
pub(crate) fn check() -> anyhow::Result<()> {
    let metadata = run::output("cargo", &["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata.context("cargo metadata says nothing")?)?;
    let faults = faults(&used(&metadata).context("cargo metadata is not what it was")?);
    if !faults.is_empty() {
        bail!("crates/xtask/src/borders.rs:\n{}", faults.join("\n"));
    }
    Ok(())
}

/// The workspace's crates with the dependencies in their manifests.
fn used(metadata: &Value) -> Option<BTreeMap<&str, Vec<&str>>> {
    let packages = metadata["packages"].as_array()?.iter();
    let used = packages.map(|package| {
        let names = package["dependencies"].as_array()?.iter().map(|dependency| dependency["name"].as_str());
        Some((package["name"].as_str()?, names.collect::<Option<_>>()?))
    });
    used.collect()
}

fn faults(used: &BTreeMap<&str, Vec<&str>>) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, dependencies) in used {
        let Some(inside) = allowed(&INSIDE, name) else {
            faults.push(format!("{name} is not in the table"));
            continue;
        };
        let outside = allowed(&OUTSIDE, name);
        for dependency in dependencies {
            let is_allowed = match used.contains_key(dependency) {
                true => inside.contains(dependency),
                false => outside.is_none_or(|outside| outside.contains(dependency)),
            };
            if !is_allowed {
                faults.push(format!("{name} may not use {dependency}"));
            }
        }
        let all = inside.iter().chain(outside.unwrap_or_default());
        faults.extend(all.filter(|one| !dependencies.contains(one)).map(|one| format!("{name} no longer uses {one}")));
    }
    let names = INSIDE.iter().chain(&OUTSIDE).map(|(name, _)| *name);
    faults.extend(names.filter(|name| !used.contains_key(name)).map(|name| format!("there is no crate {name}")));
    faults
}

fn allowed(table: &[(&str, &'static [&'static str])], name: &str) -> Option<&'static [&'static str]> {
    table.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, allowed)| *allowed)
}
