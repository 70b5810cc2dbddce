//! The manifests of package managers, filled in from the files that were made.

use std::{
    fs,
    path::{Path, PathBuf},
};

use xtask::run::{root, step};

use crate::{
    linux,
    programs::{Machine, Program},
    release::{REPOSITORY, Release},
    sums, template,
    tree::Tree,
    windows,
};

/// Makes the manifests of each manager whose files exist.
pub(crate) fn make(release: &Release) -> anyhow::Result<()> {
    step("manifests of package managers");
    let worker = |rest: &str| release.file(Program::Worker.name(), rest);
    let linux = |machine| worker(&format!("{}.tar.xz", linux::system(machine)));
    // Each file, with the placeholders for its name and its hash.
    let files = [
        (linux(Machine::X86_64), "LINUX_X86_64", "SHA256_LINUX_X86_64"),
        (linux(Machine::Arm64), "LINUX_ARM64", "SHA256_LINUX_ARM64"),
        (windows::setup_file(release), "SETUP", "SHA256_SETUP"),
        (windows::msi_file(release), "MSI", "SHA256_MSI"),
        (worker(&format!("{}.zip", windows::SYSTEM)), "WINDOWS_ZIP", "SHA256_WINDOWS_ZIP"),
        (worker(&format!("{}.zip", crate::macos::SYSTEM)), "MACOS", "SHA256_MACOS"),
    ];
    let mut values = release.values();
    values.insert("RELEASES", format!("{REPOSITORY}/releases/download/v{}", release.version));
    values.insert("PRODUCT_CODE", windows::product_code(release));
    for (file, name, hash) in files {
        if file.exists() {
            values.insert(name, file.file_name().unwrap_or_default().to_string_lossy().into_owned());
            values.insert(hash, sums::sha256(&file)?);
        }
    }
    let folder = release.file_name("chaarfm", "package-managers");
    let mut tree = Tree::default();
    for manager in sorted(&root().join("packaging/managers"))? {
        let name = manager.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut filled = Tree::default();
        let complete = sorted(&manager)?.into_iter().try_for_each(|file| {
            let path = format!("{name}/{}", file.file_name().unwrap_or_default().to_string_lossy());
            filled.add(format!("{folder}/{path}"), template::file(&format!("managers/{path}"), &values)?);
            anyhow::Ok(())
        });
        match complete {
            Ok(()) => tree.extend(filled),
            Err(lacks) => println!("no manifest for {name}: {lacks:#}"),
        }
    }
    tree.tar_xz(release, Machine::Arm64, &release.file("chaarfm", "package-managers.tar.xz"))
}

fn sorted(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
