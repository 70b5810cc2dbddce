//! macOS: an application for both processors, made on Linux: linked by the toolchain's linker, signed and packed.
//!
//! Apple's SDK is not needed. The linker only needs the names and symbols of the system libraries, which
//! `packaging/macos/libraries.toml` lists; zig brings those of the C library. The link fails at a symbol that is not
//! listed, and names it.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use serde::Deserialize;
use uuid::Uuid;
use xtask::{
    run::{output, program, root, run, step, target_dir},
    tools,
};

use crate::{
    icons,
    linux::add_texts,
    programs::{self, Machine, Program},
    release::{REPOSITORY, Release},
    template,
    tree::Tree,
};

/// The system's part of a file name.
pub(crate) const SYSTEM: &str = "macos-universal";

/// Folder name of the application.
pub(crate) const APPLICATION: &str = "ChaarFM Worker.app";

/// The oldest macOS that the application runs on: the first one for Apple's own processors.
pub(crate) const MINIMUM: &str = "11.0";

/// The tool that signs, checks signatures, and joins executables.
const RCODESIGN: (&str, &str) = ("apple-codesign", "0.29.0");

/// Environment variables: a Developer ID with its key, in PKCS #12, and its password; a key for Apple's notary. All
/// optional.
const KEY: &str = "CHAARFM_APPLE_P12";
const KEY_PASSWORD: &str = "CHAARFM_APPLE_P12_PASSWORD";
const NOTARY_KEY: &str = "CHAARFM_APPLE_API_KEY";

/// What a disk image ends with.
const TRAILER_BYTES: i64 = 512;

/// What a build for macOS needs.
pub(crate) struct Tools {
    /// The folder that replaces the SDK.
    pub(crate) libraries: PathBuf,
    pub(crate) compiler: PathBuf,
    pub(crate) archiver: PathBuf,
}

/// A list of system libraries.
#[derive(Deserialize)]
struct Libraries {
    library: Vec<Library>,
}

/// What the linker needs to know about a system library.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Library {
    /// `Metal`, or `libobjc.A` for what lies in `/usr/lib`.
    name: String,
    /// The version in a framework's path; none for a library in `/usr/lib`.
    framework: Option<char>,
    /// What it has for both kinds of processor.
    symbols: Vec<String>,
    /// What it has besides for Intel's alone.
    #[serde(default)]
    x86_64: Vec<String>,
}

/// Makes everything for macOS.
pub(crate) fn make(release: &Release) -> anyhow::Result<()> {
    let rcodesign = rcodesign()?;
    let slices = [
        programs::for_macos(release, Program::Worker, Machine::Arm64)?,
        programs::for_macos(release, Program::Worker, Machine::X86_64)?,
    ];
    step("the application for macOS");
    let folder = release.work("macos")?;
    let universal = folder.join(Program::Worker.name());
    run(Command::new(&rcodesign).args(["macho-universal-create", "--output"]).arg(&universal).args(&slices))?;
    let application = application(release, &universal)?;
    application.write_into(&folder)?;
    let bundle = folder.join(APPLICATION);
    sign(&rcodesign, &folder, &bundle)?;
    notarise(&rcodesign, &bundle)?;
    let mut signed = Tree::default();
    signed.add_folder(APPLICATION, &bundle)?;
    signed.zip(release, &release.file(Program::Worker.name(), &format!("{SYSTEM}.zip")))?;
    disk_image(release, &signed)
}

fn application(release: &Release, universal: &Path) -> anyhow::Result<Tree> {
    let contents = format!("{APPLICATION}/Contents");
    let mut values = release.values();
    values.insert("MINIMUM", MINIMUM.to_owned());
    let mut tree = Tree::default();
    tree.add(format!("{contents}/Info.plist"), template::file("macos/Info.plist", &values)?);
    tree.add(format!("{contents}/PkgInfo"), "APPL????");
    tree.add(format!("{contents}/Resources/AppIcon.icns"), icons::icns()?);
    tree.add_executable(format!("{contents}/MacOS/{}", Program::Worker.name()), programs::read(universal)?);
    add_texts(&mut tree, &format!("{contents}/Resources"), release)?;
    Ok(tree)
}

/// Signs with the Developer ID if there is one, otherwise ad hoc: Apple's processors run nothing unsigned.
fn sign(rcodesign: &Path, folder: &Path, bundle: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(rcodesign);
    command.args(["sign", "--code-signature-flags", "runtime", "--entitlements-xml-file"]);
    command.arg(root().join("packaging/macos/entitlements.plist"));
    if let Some(key) = env::var_os(KEY) {
        // Passed in a file, because other users of this machine can see the arguments of processes.
        let password = folder.join("password");
        fs::write(&password, env::var(KEY_PASSWORD).unwrap_or_default())?;
        command.arg("--p12-file").arg(key).arg("--p12-password-file").arg(&password);
        let signed = run(command.arg(bundle));
        fs::remove_file(password)?;
        return signed;
    }
    run(command.arg(bundle))
}

/// Has Apple notarise the application and staples the ticket to it, if there are a Developer ID and a key for the
/// notary.
fn notarise(rcodesign: &Path, bundle: &Path) -> anyhow::Result<()> {
    let (Some(_), Some(key)) = (env::var_os(KEY), env::var_os(NOTARY_KEY)) else { return Ok(()) };
    run(Command::new(rcodesign).args(["notary-submit", "--staple", "--api-key-file"]).arg(key).arg(bundle))
}

/// Makes a `.dmg` with the application and a link to the folder for applications.
fn disk_image(release: &Release, signed: &Tree) -> anyhow::Result<()> {
    if output("xorriso", &["-version"]).is_none() {
        tools::install_packages(&["xorriso"])?;
    }
    let folder = release.work("macos-image")?;
    let content = folder.join("content");
    signed.write_into(&content)?;
    let mut link = Tree::default();
    link.add_link("Applications", "/Applications");
    link.write_into(&content)?;
    // macOS reads the file system of compact discs, with its extension for Unix names, as well as its own. Files keep their
    // modes: whoever drags the application out can also replace it.
    let image = folder.join("image.iso");
    let mut command =
        program("xorriso", &["-as", "mkisofs", "-quiet", "-V", "ChaarFM Worker", "-D", "-l", "-no-pad", "-R"]);
    command.args([
        "-uid",
        "0",
        "-gid",
        "0",
        "-dir-mode",
        "0755",
        "--set_all_file_dates",
        &format!("={}", release.date),
    ]);
    command.arg("-o").arg(&image).arg(&content);
    run(command.env("SOURCE_DATE_EPOCH", release.date.to_string()))?;
    let file = release.file(Program::Worker.name(), &format!("{SYSTEM}.dmg"));
    let mut packed = apple_dmg::DmgWriter::create(&file)?;
    packed.add_partition("whole disk (Apple_ISO : 0)", &fs::read(image)?)?;
    packed.finish()?;
    // Its number would be another one each time.
    let mut trailer = *apple_dmg::DmgReader::open(&file)?.koly();
    let name = format!("{REPOSITORY} macos image {} {}", release.version, release.date);
    trailer.segment_id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).into_bytes();
    let mut out = OpenOptions::new().write(true).open(&file)?;
    out.seek(SeekFrom::End(-TRAILER_BYTES))?;
    trailer.write_to(&mut out)
}

/// What signs, installed when missing.
fn rcodesign() -> anyhow::Result<PathBuf> {
    let (package, version) = RCODESIGN;
    let program = target_dir().join("tools/bin/rcodesign");
    // Apple's notary needs the package's default features, which take long to compile.
    let features: &[&str] = if env::var_os(NOTARY_KEY).is_some() { &[] } else { &["--no-default-features"] };
    tools::install("rcodesign", package, version, &[features, &["--locked"]].concat())?;
    Ok(program)
}

/// The compiler, the archiver and the library stubs.
pub(crate) fn tools(machine: Machine) -> anyhow::Result<Tools> {
    let zig = zig()?;
    let folder = target_dir().join("tools").join("macos");
    let libraries = folder.join("libraries");
    fs::create_dir_all(&folder)?;
    write_libraries(&zig, &libraries)?;
    let program = zig.join("zig");
    let zig_machine = machine.gnu();
    let compiler = folder.join(format!("cc-{zig_machine}"));
    script(&compiler, &compiler_script(&program, zig_machine))?;
    let archiver = folder.join("ar");
    script(&archiver, &format!("#!/bin/sh\nexec '{}' ar \"$@\"\n", program.display()))?;
    Ok(Tools { libraries, compiler, archiver })
}

/// The folder of zig's Python package.
fn zig() -> anyhow::Result<PathBuf> {
    let library = programs::zig_environment()?.join("lib");
    for entry in fs::read_dir(&library)? {
        let package = entry?.path().join("site-packages/ziglang");
        if package.exists() {
            return Ok(package);
        }
    }
    bail!("{} has no zig", library.display())
}

/// A script that runs zig's compiler, with the target translated: cargo's libraries pass it in the form of Apple's
/// compiler.
fn compiler_script(zig: &Path, machine: &str) -> String {
    format!(
        r#"#!/bin/sh
for argument; do
    shift
    if [ -n "$skip" ]; then skip=; continue; fi
    case "$argument" in
        -arch | -isysroot | -target) skip=1 ;;
        --target=* | -mmacosx-version-min=* | -gfull) ;;
        *) set -- "$@" "$argument" ;;
    esac
done
exec '{}' cc -target {machine}-macos.{MINIMUM} -fno-sanitize=undefined "$@"
"#,
        zig.display()
    )
}

fn script(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut tree = Tree::default();
    let name = file.file_name().context("a script has a name")?.to_string_lossy();
    tree.add_executable(name, text);
    tree.write_into(file.parent().context("a script lies in a folder")?)
}

/// Writes the folder that replaces the SDK.
fn write_libraries(zig: &Path, folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let mut tree = Tree::default();
    let libc = fs::read_to_string(zig.join("lib/libc/darwin/libSystem.tbd"))?;
    tree.add("usr/lib/libSystem.tbd", for_arm64(&libc));
    for name in ["c", "m", "pthread", "dl"] {
        tree.add_link(format!("usr/lib/lib{name}.tbd"), "libSystem.tbd");
    }
    for library in libraries()? {
        tree.add(library.stub_file(), library.stub());
    }
    tree.write_into(folder)
}

/// What `libraries.toml` says.
pub(crate) fn libraries() -> anyhow::Result<Vec<Library>> {
    let text = fs::read_to_string(root().join("packaging/macos/libraries.toml"))?;
    let Libraries { library } = toml::from_str(&text).context("packaging/macos/libraries.toml")?;
    let mut at = BTreeMap::new();
    for Library { name, symbols, x86_64, .. } in &library {
        for symbol in symbols.iter().chain(x86_64) {
            if let Some(other) = at.insert(symbol, name) {
                bail!("packaging/macos/libraries.toml: {symbol} is in {other} and in {name}");
            }
        }
    }
    Ok(library)
}

impl Library {
    /// Where macOS has it.
    pub(crate) fn path(&self) -> String {
        let name = &self.name;
        match self.framework {
            Some(version) => format!("/System/Library/Frameworks/{name}.framework/Versions/{version}/{name}"),
            None => format!("/usr/lib/{name}.dylib"),
        }
    }

    /// Whether it is listed with this symbol for this kind of processor.
    pub(crate) fn has(&self, symbol: &str, machine: Machine) -> bool {
        let listed = |symbols: &[String]| symbols.iter().any(|listed| listed == symbol);
        listed(&self.symbols) || (machine == Machine::X86_64 && listed(&self.x86_64))
    }

    /// Where linkers look for it in what stands for the SDK.
    fn stub_file(&self) -> String {
        let name = &self.name;
        match self.framework {
            Some(_) => format!("System/Library/Frameworks/{name}.framework/{name}.tbd"),
            None => format!("usr/lib/{}.tbd", name.split('.').next().unwrap_or(name)),
        }
    }

    /// What linkers read of it: the format `tapi-tbd`, version 4.
    fn stub(&self) -> String {
        let both = "[ arm64-macos, x86_64-macos ]";
        let mut text =
            format!("--- !tapi-tbd\ntbd-version: 4\ntargets: {both}\ninstall-name: '{}'\nexports:\n", self.path());
        for (targets, symbols) in [(both, &self.symbols), ("[ x86_64-macos ]", &self.x86_64)] {
            let symbols = symbols.iter().map(|symbol| format!("'{symbol}'")).collect::<Vec<_>>().join(", ");
            text += &format!("  - targets: {targets}\n    symbols: [ {symbols} ]\n");
        }
        text + "...\n"
    }
}

/// The C library's stub for `arm64` programs: zig's lists name only `arm64e`, Apple's own variant. Its libraries have
/// the same symbols, but the toolchain's linker does not know it.
fn for_arm64(list: &str) -> String {
    let mut text = String::new();
    let mut rest = list;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((items, behind)) = after.split_once(']') else { break };
        let items = items.split(',').map(str::trim).filter(|item| !item.starts_with("arm64e.x1-"));
        let items = items.map(|item| item.replace("arm64e-", "arm64-")).collect::<Vec<_>>().join(", ");
        text.push_str(&format!("{before}[ {items} ]"));
        rest = behind;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_is_listed_for_arm64() {
        let list = "targets: [ x86_64-macos, arm64e-macos,\n  arm64e.x1-macos ]\nsymbols: [ _a, \n _b ]\n...";
        assert_eq!(for_arm64(list), "targets: [ x86_64-macos, arm64-macos ]\nsymbols: [ _a, _b ]\n...");
    }

    #[test]
    fn every_library_has_symbols_of_its_own() {
        assert!(!libraries().unwrap().is_empty());
    }

    #[test]
    fn what_intels_processors_need_alone_is_listed_for_them_alone() {
        let library = Library {
            name: "libobjc.A".to_owned(),
            framework: None,
            symbols: vec!["_a".to_owned(), "_b".to_owned()],
            x86_64: vec!["_c".to_owned()],
        };
        assert_eq!(library.stub_file(), "usr/lib/libobjc.tbd");
        assert_eq!(
            library.stub(),
            "--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos, x86_64-macos ]\ninstall-name: \
             '/usr/lib/libobjc.A.dylib'\nexports:\n  - targets: [ arm64-macos, x86_64-macos ]\n    symbols: [ '_a', '_b' ]\n  \
             - targets: [ x86_64-macos ]\n    symbols: [ '_c' ]\n...\n"
        );
        assert!(library.has("_a", Machine::Arm64) && library.has("_c", Machine::X86_64));
        assert!(!library.has("_c", Machine::Arm64) && !library.has("_d", Machine::X86_64));
    }
}
