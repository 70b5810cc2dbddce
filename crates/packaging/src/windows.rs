//! Windows: executables with their resources, the installer for users, the MSI for administrators, and portable ZIPs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use uuid::Uuid;
use xtask::{
    run::{output, program, run, step},
    tools,
};

use crate::{
    icons,
    linux::add_texts,
    programs::{self, Program},
    release::{REPOSITORY, Release},
    template::{self, Values},
    tree::Tree,
};

/// The system's part of a file name.
pub(crate) const SYSTEM: &str = "windows-x86_64";

/// Required Debian packages: compiler and resource compiler, installers, signing tool.
const PACKAGES: [&str; 5] = ["gcc-mingw-w64-x86-64-win32", "mingw-w64-x86-64-dev", "nsis", "wixl", "osslsigncode"];

/// Environment variables: a signing key with its certificate, in PKCS #12, optional, and its password.
const KEY: &str = "CHAARFM_WINDOWS_P12";
const KEY_PASSWORD: &str = "CHAARFM_WINDOWS_P12_PASSWORD";

/// Timestamp server: a timestamp keeps a signature valid after the certificate expires.
const TIMESTAMPS: &str = "http://timestamp.digicert.com";

/// Makes everything for Windows.
pub(crate) fn make(release: &Release) -> anyhow::Result<()> {
    let has = |program: &str, argument: &str| output(program, &[argument]).is_some();
    if !(has("x86_64-w64-mingw32-windres", "--version") && has("makensis", "-VERSION") && has("wixl", "--version")) {
        tools::install_packages(&PACKAGES)?;
    }
    for program in [Program::Worker, Program::Server] {
        let values = values(release, program);
        let resources = resources(release, program, &values)?;
        let built = programs::for_windows(release, program, &resources)?;
        step(&format!("{}: what Windows installs", program.name()));
        let folder = release.work("windows")?;
        let executable = folder.join(format!("{}.exe", program.name()));
        fs::copy(&built, &executable)?;
        sign(&executable)?;
        zip(release, program, &executable)?;
        if program == Program::Worker {
            for (name, file) in [("LICENSE-MIT", "LICENSE-MIT.txt"), ("LICENSE-APACHE", "LICENSE-APACHE.txt")] {
                fs::write(folder.join(file), with_windows_line_ends(&programs::text(name)?))?;
            }
            let others = fs::read_to_string(release.file("chaarfm", "third-party-licences.txt"))?;
            fs::write(folder.join("THIRD-PARTY-LICENCES.txt"), with_windows_line_ends(&others))?;
            fs::write(folder.join("program.ico"), icons::ico()?)?;
            setup(release, &folder, values.clone())?;
            msi(release, &folder, values)?;
        }
    }
    Ok(())
}

fn values(release: &Release, program: Program) -> Values {
    let mut values = release.values();
    // Windows versions have four numbers.
    let numbers: Vec<_> =
        release.version.split(['.', '-', '+']).filter(|part| part.parse::<u16>().is_ok()).take(3).collect();
    values.insert("NAME", program.name().to_owned());
    values.insert("TITLE", if program == Program::Worker { "ChaarFM Worker" } else { "ChaarFM Server" }.to_owned());
    values.insert("NUMBERS", format!("{},0", numbers.join(",")));
    values.insert("DOTTED", format!("{}.0", numbers.join(".")));
    values
}

/// Compiles icon, version and manifest into an object file. They are linked from here instead of by build scripts of
/// the programs, which would slow down every other build.
fn resources(release: &Release, program: Program, values: &Values) -> anyhow::Result<PathBuf> {
    let folder = release.work(&format!("windows-resources-{}", program.name()))?;
    fs::write(folder.join("program.ico"), icons::ico()?)?;
    for file in ["program.rc", "program.manifest"] {
        fs::write(folder.join(file), template::file(&format!("windows/{file}"), values)?)?;
    }
    let object = folder.join("resources.o");
    run(self::program("x86_64-w64-mingw32-windres", &["program.rc"]).arg(&object).current_dir(&folder))?;
    Ok(object)
}

fn zip(release: &Release, program: Program, executable: &Path) -> anyhow::Result<()> {
    let folder = release.file_name(program.name(), SYSTEM);
    let mut tree = Tree::default();
    tree.add_executable(format!("{folder}/{}.exe", program.name()), programs::read(executable)?);
    add_texts(&mut tree, &folder, release)?;
    tree.zip(release, &release.file(program.name(), &format!("{SYSTEM}.zip")))
}

/// Makes the installer for users.
fn setup(release: &Release, folder: &Path, mut values: Values) -> anyhow::Result<()> {
    let file = setup_file(release);
    values.insert("SETUP", file.to_string_lossy().into_owned());
    fs::write(folder.join("worker.nsi"), template::file("windows/worker.nsi", &values)?)?;
    let mut command = program("makensis", &["-V2", "-WX", "worker.nsi"]);
    run(command.current_dir(folder).env("SOURCE_DATE_EPOCH", release.date.to_string()))?;
    sign(&file)
}

/// Path of the installer.
pub(crate) fn setup_file(release: &Release) -> PathBuf {
    release.file(Program::Worker.name(), &format!("{SYSTEM}-setup.exe"))
}

/// Makes the installer for administrators.
fn msi(release: &Release, folder: &Path, mut values: Values) -> anyhow::Result<()> {
    let file = msi_file(release);
    values.insert("PRODUCT_CODE", product_code(release));
    fs::write(folder.join("worker.wxs"), template::file("windows/worker.wxs", &values)?)?;
    // The cabinet stores the files' times.
    let date = format!("--date=@{}", release.date);
    run(program("find", &[]).arg(folder).args(["-type", "f", "-exec", "touch", &date, "{}", "+"]))?;
    let mut command = program("wixl", &["--arch", "x64", "--output"]);
    run(command.arg(&file).arg("worker.wxs").current_dir(folder))?;
    name_msi(release, &file)?;
    sign(&file)
}

/// Replaces random identifiers and current times in the file with those of the release.
fn name_msi(release: &Release, file: &Path) -> anyhow::Result<()> {
    let mut package = msi::open_rw(file)?;
    let date = UNIX_EPOCH + Duration::from_secs(release.date.into());
    let information = package.summary_info_mut();
    information.set_uuid(identifier(&format!("package {} {}", release.version, release.date)));
    information.set_creation_time(date);
    information.set_last_save_time(date);
    Ok(package.flush()?)
}

/// Path of the MSI.
pub(crate) fn msi_file(release: &Release) -> PathBuf {
    release.file(Program::Worker.name(), &format!("{SYSTEM}.msi"))
}

/// Windows' identifier of this version.
pub(crate) fn product_code(release: &Release) -> String {
    identifier(&format!("product {}", release.version)).to_string().to_uppercase()
}

/// An identifier derived from a name; always the same for the same name.
fn identifier(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{REPOSITORY} windows worker {name}").as_bytes())
}

/// Signs a file if there is a key. Windows warns of an unknown publisher otherwise.
fn sign(file: &Path) -> anyhow::Result<()> {
    let Some(key) = env::var_os(KEY) else { return Ok(()) };
    let signed = file.with_extension("signed");
    let mut command = program("osslsigncode", &["sign", "-h", "sha256", "-n", "ChaarFM", "-ts", TIMESTAMPS]);
    command.args(["-i", REPOSITORY, "-pkcs12"]).arg(key);
    // Passed in a file, because other users of this machine can see the arguments of processes.
    let password = tempfile::NamedTempFile::new()?;
    if let Some(secret) = env::var_os(KEY_PASSWORD) {
        fs::write(password.path(), secret.as_encoded_bytes())?;
        command.arg("-readpass").arg(password.path());
    }
    run(command.arg("-in").arg(file).arg("-out").arg(&signed))?;
    Ok(fs::rename(signed, file)?)
}

/// Editors of older Windows versions do not recognise other line ends.
fn with_windows_line_ends(text: &str) -> String {
    text.replace('\n', "\r\n")
}
