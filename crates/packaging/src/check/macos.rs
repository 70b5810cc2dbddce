//! Inspects the application, which cannot run here.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use anyhow::{Context, bail};
use object::{
    macho::{self, MachHeader64},
    read::macho::{LoadCommandVariant, MachHeader, MachOFatFile32},
};
use xtask::{
    run::{output, program, run},
    tools,
};

use crate::{
    check::{linux::printed, tells_no_path},
    macos::{APPLICATION, MINIMUM, SYSTEM, rcodesign},
    programs::Program,
    release::Release,
};

/// `MINIMUM` encoded as in a load command: 16 bits for the first number, 8 each for the second and third.
const MINIMUM_PACKED: macho::Version = macho::Version(11 << 16);

/// The folders of macOS's own libraries.
const LIBRARIES: [&str; 2] = ["/System/Library/Frameworks/", "/usr/lib/"];

/// Checks ZIP, executable, signature and disk image.
pub(super) fn check(release: &Release) -> anyhow::Result<()> {
    let folder = release.work("check-macos")?;
    let zip = release.file(Program::Worker.name(), &format!("{SYSTEM}.zip"));
    zip::ZipArchive::new(File::open(zip)?)?.extract(&folder)?;
    let bundle = folder.join(APPLICATION);
    let executable = bundle.join("Contents/MacOS").join(Program::Worker.name());
    let bytes = fs::read(&executable)?;
    tells_no_path(APPLICATION, &bytes)?;
    slices(&bytes)?;
    signature(&bundle, &executable)?;
    disk_image(release, &folder, &bytes)
}

/// Both processors are included, the oldest system is right, and only system libraries are used.
fn slices(bytes: &[u8]) -> anyhow::Result<()> {
    let fat = MachOFatFile32::parse(bytes)?;
    let mut kinds = Vec::new();
    for arch in fat.arches() {
        use object::read::macho::FatArch;
        let slice = arch.data(bytes)?;
        let header = MachHeader64::<object::Endianness>::parse(slice, 0)?;
        let endian = header.endian()?;
        kinds.push(arch.cputype());
        let (mut minimum, mut signed) = (None, false);
        let mut libraries = Vec::new();
        let mut commands = header.load_commands(endian, slice, 0)?;
        while let Some(command) = commands.next()? {
            match command.variant()? {
                LoadCommandVariant::BuildVersion(version, _) => minimum = Some(version.minos.get(endian)),
                LoadCommandVariant::Dylib(library) => {
                    let name = command.string(endian, library.dylib.name)?;
                    libraries.push(String::from_utf8_lossy(name).into_owned());
                }
                LoadCommandVariant::LinkeditData(_) => signed |= command.cmd() == macho::LC_CODE_SIGNATURE,
                _ => {}
            }
        }
        println!("processor {:#x}: macOS {MINIMUM}, {}", arch.cputype().0, libraries.join(" "));
        if minimum != Some(MINIMUM_PACKED) {
            bail!("the least system is {minimum:?} instead of {MINIMUM}");
        }
        if !signed {
            bail!("a slice has no signature");
        }
        if let Some(foreign) = libraries.iter().find(|name| !LIBRARIES.iter().any(|start| name.starts_with(start))) {
            bail!("{foreign} is not the system's");
        }
    }
    if kinds != [macho::CPU_TYPE_ARM64, macho::CPU_TYPE_X86_64]
        && kinds != [macho::CPU_TYPE_X86_64, macho::CPU_TYPE_ARM64]
    {
        bail!("the executable is for {kinds:?}");
    }
    Ok(())
}

/// The signature's hashes match the file, which requests the hardened runtime and has its entitlements.
fn signature(bundle: &Path, executable: &Path) -> anyhow::Result<()> {
    let rcodesign = rcodesign()?;
    run(Command::new(&rcodesign).arg("verify").arg(executable))?;
    let told = printed(Command::new(&rcodesign).arg("print-signature-info").arg(bundle))?;
    for what in ["RUNTIME", "com.apple.security.network.client", "com.chaarfm.Worker"] {
        if !told.contains(what) {
            bail!("the signature has no {what}: {told}");
        }
    }
    Ok(())
}

/// The disk image contains the application and the link.
fn disk_image(release: &Release, folder: &Path, executable: &[u8]) -> anyhow::Result<()> {
    if output("7z", &["i"]).is_none() {
        tools::install_packages(&["p7zip-full"])?;
    }
    let file = release.file(Program::Worker.name(), &format!("{SYSTEM}.dmg"));
    let mut image = apple_dmg::DmgReader::open(&file)?;
    let iso = folder.join("image.iso");
    fs::write(&iso, image.partition_data(0)?)?;
    // Two independent readers must agree on the content.
    run(program("7z", &["t"]).arg(&file))?;
    let unpacked = folder.join("image");
    run(program("7z", &["x", "-y", &format!("-o{}", unpacked.display())]).arg(&iso))?;
    let inside = unpacked.join(APPLICATION).join("Contents/MacOS").join(Program::Worker.name());
    if fs::read(&inside).with_context(|| format!("{} is missing", inside.display()))? != executable {
        bail!("the image has another executable");
    }
    if fs::symlink_metadata(unpacked.join("Applications")).is_err() {
        bail!("the image has no link to where applications are");
    }
    Ok(())
}
