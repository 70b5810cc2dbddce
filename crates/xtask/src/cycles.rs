//! Finds modules that use each other in a cycle, because such modules can only be understood together. Only a crate's
//! top-level files and folders are compared: a module and its submodules may use each other freely.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::run::root;

/// Crates whose top-level modules must be free of cycles. Tests may use anything.
const CRATES: [&str; 20] = [
    "crates/analysis",
    "crates/api",
    "crates/bindgen",
    "crates/config",
    "crates/coordinator",
    "crates/doctor",
    "crates/domain",
    "crates/protocol",
    "crates/scratch",
    "crates/server",
    "crates/sources",
    "crates/store",
    "crates/test-postgres",
    "crates/worker",
    "crates/worker-native",
    "crates/worker-web",
    "crates/xtask",
    "models",
    "tests",
    "web",
];

type Uses = BTreeMap<String, BTreeSet<String>>;

/// Searches for cycles.
///
/// # Errors
/// When there is a cycle; the error names its modules.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut faults = Vec::new();
    for folder in CRATES {
        let circle = left_in_circles(uses(&root().join(folder).join("src"))?);
        if !circle.is_empty() {
            faults.push(format!("{folder}: {}", circle.into_keys().collect::<Vec<_>>().join(", ")));
        }
    }
    if !faults.is_empty() {
        bail!("modules use each other in a circle:\n{}", faults.join("\n"));
    }
    Ok(())
}

/// For each top-level module of a crate, the other modules that it uses.
fn uses(src: &Path) -> anyhow::Result<Uses> {
    let mut uses = Uses::new();
    for file in files(src)? {
        let within = file.strip_prefix(src)?;
        let top = within.iter().next().context("a file has a name")?;
        let top = Path::new(top).file_stem().context("a file has a name")?.to_string_lossy().into_owned();
        let text = fs::read_to_string(&file)?;
        let program = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        uses.entry(top).or_default().extend(used_modules(program));
    }
    for (module, used) in &mut uses {
        used.remove(module);
    }
    Ok(uses)
}

/// All files below a folder.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// The first segment of every path that begins with `crate::`, including those in braces after it.
fn used_modules(program: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    let code = program.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            modules.insert(first_word(rest));
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                _ if begins && !c.is_whitespace() => {
                    modules.insert(first_word(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    modules
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Repeatedly removes modules that use no other or are used by no other; cycles remain.
fn left_in_circles(mut uses: Uses) -> Uses {
    loop {
        let used: BTreeSet<String> = uses.values().flatten().cloned().collect();
        let known: BTreeSet<String> = uses.keys().cloned().collect();
        let before = uses.len();
        uses.retain(|module, uses| {
            uses.retain(|one| known.contains(one));
            !uses.is_empty() && used.contains(module)
        });
        if uses.len() == before {
            return uses;
        }
    }
}
