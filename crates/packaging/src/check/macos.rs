//! Inspects the application, which cannot run here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::Path,
};

use anyhow::{Context, bail};
use object::{
    Endianness, Object,
    macho::{self, MachHeader64},
    read::macho::{FatArch, LoadCommandVariant, MachHeader, MachOFatFile32, MachOFile64},
};
use xtask::{
    run::{output, program, run},
    tools,
};

use crate::{
    check::{linux::printed, signature, tells_no_path},
    macos::{APPLICATION, Library, MINIMUM, SYSTEM, libraries},
    programs::{Machine, Program},
    release::Release,
};

/// `MINIMUM` encoded as in a load command: 16 bits for the first number, 8 each for the second and third.
const MINIMUM_PACKED: macho::Version = macho::Version(11 << 16);

/// The folders of macOS's own libraries.
const LIBRARIES: [&str; 2] = ["/System/Library/Frameworks/", "/usr/lib/"];

/// The C library, whose symbols are listed by zig.
const C_LIBRARY: &str = "/usr/lib/libSystem.B.dylib";

/// ZIP, executable, signature and image.
pub(super) fn check(release: &Release) -> anyhow::Result<()> {
    let folder = release.work("check-macos")?;
    let zip = release.file(Program::Worker.name(), &format!("{SYSTEM}.zip"));
    zip::ZipArchive::new(File::open(zip)?)?.extract(&folder)?;
    let contents = folder.join(APPLICATION).join("Contents");
    let bytes = fs::read(contents.join("MacOS").join(Program::Worker.name()))?;
    if !release.development {
        tells_no_path(APPLICATION, &bytes)?;
    }
    let slices = slices(&bytes)?;
    for (machine, slice) in [Machine::Arm64, Machine::X86_64].into_iter().zip(slices) {
        println!("{}:", machine.name());
        libraries_of(slice)?;
        imports(slice, machine)?;
        signature::of_executable(slice, &contents)?;
    }
    signature::of_files(&contents)?;
    disk_image(release, &folder)
}

/// The executables for Apple's processors and for Intel's.
fn slices(bytes: &[u8]) -> anyhow::Result<[&[u8]; 2]> {
    let fat = MachOFatFile32::parse(bytes)?;
    let of = |kind| {
        let arch = fat.arches().iter().find(|arch| arch.cputype() == kind).context("a kind of processor is missing")?;
        anyhow::Ok(arch.data(bytes)?)
    };
    Ok([of(macho::CPU_TYPE_ARM64)?, of(macho::CPU_TYPE_X86_64)?])
}

/// The oldest system, and no library but the system's.
fn libraries_of(slice: &[u8]) -> anyhow::Result<()> {
    let header = MachHeader64::<Endianness>::parse(slice, 0)?;
    let endian = header.endian()?;
    let mut minimum = None;
    let mut libraries = Vec::new();
    let mut commands = header.load_commands(endian, slice, 0)?;
    while let Some(command) = commands.next()? {
        match command.variant()? {
            LoadCommandVariant::BuildVersion(version, _) => minimum = Some(version.minos.get(endian)),
            LoadCommandVariant::Dylib(library) => {
                let name = command.string(endian, library.dylib.name)?;
                libraries.push(String::from_utf8_lossy(name).into_owned());
            }
            _ => {}
        }
    }
    if minimum != Some(MINIMUM_PACKED) {
        bail!("the least system is {minimum:?} instead of {MINIMUM}");
    }
    println!("macOS {MINIMUM}, {}", libraries.join(" "));
    if let Some(foreign) = libraries.iter().find(|name| !LIBRARIES.iter().any(|start| name.starts_with(start))) {
        bail!("{foreign} is not the system's");
    }
    Ok(())
}

/// Every symbol comes from a library that has it for this kind of processor: otherwise macOS ends the program as it starts.
fn imports(slice: &[u8], machine: Machine) -> anyhow::Result<()> {
    let listed = libraries()?;
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for import in MachOFile64::<Endianness>::parse(slice)?.imports()? {
        let import = import?;
        let library = String::from_utf8_lossy(import.library()).into_owned();
        let symbol = String::from_utf8_lossy(import.name().into_name().context("a symbol has a name")?).into_owned();
        let has = |listed: &Library| listed.path() == library && listed.has(&symbol, machine);
        if library != C_LIBRARY && !listed.iter().any(has) {
            bail!("{symbol} is expected in {library:?}, which is not listed with it for {}", machine.name());
        }
        found.entry(library).or_default().insert(symbol);
    }
    // A program without these could neither write nor find a graphics card.
    for (library, symbol) in [("libSystem.B.dylib", "_write"), ("Metal", "_MTLCopyAllDevices")] {
        if !found.iter().any(|(path, symbols)| path.ends_with(library) && symbols.contains(symbol)) {
            bail!("no {symbol} is expected in {library}");
        }
    }
    for (library, symbols) in found {
        println!("{:>5} symbols of {library}", symbols.len());
    }
    Ok(())
}

/// The image has the application that the ZIP has, and beside it the link to where it belongs.
fn disk_image(release: &Release, folder: &Path) -> anyhow::Result<()> {
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
    let same = ["--recursive", "--no-dereference"];
    run(program("diff", &same).arg(folder.join(APPLICATION)).arg(unpacked.join(APPLICATION)))?;
    // What unpacks turns the link into one to a place beside the application.
    let list = printed(program("xorriso", &["-indev"]).arg(&iso).args(["-find", "/", "-exec", "lsdl", "--"]))?;
    let executable = format!("'/{APPLICATION}/Contents/MacOS/{}'", Program::Worker.name());
    for (mode, path) in [("lrwxrwxrwx", "'/Applications' -> '/Applications'"), ("-rwxr-xr-x", &executable)] {
        if !list.lines().any(|line| line.starts_with(mode) && line.ends_with(path)) {
            bail!("the image has no {mode} {path}: {list}");
        }
    }
    println!("{list}");
    Ok(())
}
