//! Packs the pages for a first look and for tests without trunk, because compiling trunk takes longer than compiling the
//! pages. The result equals trunk's development build of `web/index.html`, except for the hashes in names; [`check`] compares
//! the two.

use std::{collections::BTreeSet, fs, ops::RangeInclusive, path::Path};

use anyhow::{Context, bail, ensure};

use crate::{
    bundle,
    packages::BINDGEN,
    run::{bin_dir, cargo, program, root, run, target_dir},
    tools::WASM,
};

/// Start of a link that trunk replaces, and its mark.
const LINK: &str = "<link";
const MARK: &str = "data-trunk";

/// Hexadecimal digits of trunk's hashes in names: 64-bit numbers without leading zeros.
const HASH_DIGITS: RangeInclusive<usize> = 8..=16;

/// The browser worker's program for the GPU.
pub(crate) const GPU_WORKER: &str = "chaarfm-worker-web-gpu";

/// Packs cargo's build output into `dist/`, with the program for the GPU if that was built too; the build must include
/// [`BINDGEN`].
pub(crate) fn pages(gpu: bool) -> anyhow::Result<()> {
    pack(&bundle::folder())?;
    if gpu {
        pack_worker(GPU_WORKER, &root().join(bundle::GPU))?;
    }
    bundle::finish(false, gpu)
}

/// Fails if trunk, which must have built `dist/`, made another page or other files.
pub(crate) fn check() -> anyhow::Result<()> {
    run(&mut cargo(&["build", "--package", BINDGEN]))?;
    let ours = target_dir().join("first-look");
    pack(&ours)?;
    let (ours, trunks) = (names(&ours)?, names(&bundle::folder())?);
    let missing: Vec<_> = ours.symmetric_difference(&trunks).collect();
    ensure!(missing.is_empty(), "of the pages for a first look and trunk's, only one has {missing:?}");
    Ok(())
}

/// Writes the page and everything it links to into a folder, which is emptied first.
fn pack(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let page = root().join("web/index.html");
    let source = fs::read_to_string(&page)?;
    let (mut packed, mut rest) = (String::new(), &*source);
    while let Some(start) = rest.find(LINK) {
        let (before, link) = rest.split_at(start);
        let end = link.find("/>").with_context(|| format!("a link in {} has no end", page.display()))? + "/>".len();
        let (link, after) = link.split_at(end);
        packed.push_str(before);
        packed.push_str(&if link.contains(MARK) { replacement(link, folder)? } else { link.to_owned() });
        rest = after;
    }
    packed.push_str(rest);
    Ok(fs::write(folder.join("index.html"), packed)?)
}

/// The replacement for one of trunk's links; also writes the linked files.
fn replacement(link: &str, folder: &Path) -> anyhow::Result<String> {
    let attribute = |name: &str| {
        let words = link.split_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix("=\""));
        words.filter_map(|value| value.split_once('"')).map(|(value, _)| value).next()
    };
    let named = |name: &str| attribute(name).with_context(|| format!("{link} has no {name}"));
    let copied = |rel: &str| -> anyhow::Result<String> {
        let href = named("href")?;
        fs::copy(root().join("web").join(href), folder.join(href))?;
        Ok(format!("<link rel=\"{rel}\" href=\"/{href}\" />"))
    };
    match (named("rel")?, attribute("data-type")) {
        ("icon", _) => copied("icon"),
        ("css", _) => copied("stylesheet"),
        ("rust", None) => {
            let name = named("data-bin")?;
            bind(name, folder)?;
            Ok(format!(
                "<script type=\"module\">\nimport init from '/{name}.js';\nawait init({{ module_or_path: '/{name}_bg.wasm' }});\n</script>"
            ))
        }
        ("rust", Some("worker")) => {
            let name = named("data-bin")?;
            pack_worker(name, folder)?;
            Ok(String::new())
        }
        _ => bail!("{link} is of no known kind"),
    }
}

/// Writes a program for Web Workers, and a loader that can start it as a module.
fn pack_worker(name: &str, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    bind(name, folder)?;
    let loader = format!("import init from './{name}.js';await init();");
    Ok(fs::write(folder.join(format!("{name}_loader.js")), loader)?)
}

/// Writes the browser files for a program compiled by cargo.
fn bind(name: &str, folder: &Path) -> anyhow::Result<()> {
    let compiled = target_dir().join(WASM).join("debug").join(format!("{name}.wasm"));
    run(program(&bin_dir().join(BINDGEN).to_string_lossy(), &[]).arg(compiled).arg(name).arg(folder))
}

/// Names of the files in a folder and its subfolders, without hashes, compressed files, and files that a first look
/// lacks.
fn names(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let names = bundle::files(folder)?.into_iter().filter_map(|file| file.file_name()?.to_str().map(without_hash));
    Ok(names.filter(|name| ![".br", ".gz"].iter().any(|end| name.ends_with(end)) && !name.contains("-gpu")).collect())
}

fn without_hash(name: &str) -> String {
    let is_hash = |text: &str| HASH_DIGITS.contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let end = name.find(['.', '_']).unwrap_or(name.len());
    match name[..end].rsplit_once('-') {
        Some((plain, hash)) if is_hash(hash) => format!("{plain}{}", &name[end..]),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_with_leading_zeros_is_a_hash() {
        for hash in ["0123456789abcdef", "bcd92de88f25c15", "1f00d2e88f2"] {
            assert_eq!(without_hash(&format!("chaarfm-web-{hash}_bg.wasm")), "chaarfm-web_bg.wasm");
        }
        assert_eq!(without_hash("chaarfm-worker-web_loader.js"), "chaarfm-worker-web_loader.js");
    }
}
