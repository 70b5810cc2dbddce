//! Installs, uses and removes the installers and the ZIP in Wine. The functions are tested by the Linux program's
//! tests, run with the Windows program in its place.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use xtask::{
    packages::{PROGRAMS_AND_TESTS, native},
    run::{output, program, run},
    tools,
};

use crate::{
    check::{
        FIXTURES, HERE, compare_vectors, fixture,
        linux::{printed, unpack},
        session::{Running, Session, wait_for},
        tells_no_path,
    },
    programs::Program,
    release::Release,
    tree::Tree,
    windows::{SYSTEM, msi_file, product_code, setup_file},
};

/// Required Debian packages.
const PACKAGES: [&str; 4] = ["wine", "wine64", "xvfb", "gcc-mingw-w64-x86-64-win32"];

/// A virtual screen for Wine, as otherwise there is no place for the worker's icon.
const SCREEN: &str = ":97";

/// Port of the coordinator.
const PORT: u16 = 18_092;

/// A library with a function that this Wine lacks and real Windows has. For tests only.
const RANDOM: &str = "#include <windows.h>\n\
    BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);\n\
    __declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T length) { return SystemFunction036(bytes, length); }\n";

/// Texts that must be in an executable's manifest, in UTF-8 or UTF-16.
const RESOURCES: [&str; 3] = ["longPathAware", "activeCodePage", "PerMonitorV2"];

/// Tests of `chaarfm-tests` that every worker must pass: the page, by requests and in a browser; updates and rollback;
/// tracks of every format, beside a browser tab.
const TESTS: [&str; 3] = ["desktop", "update", "end_to_end"];

/// A separate Windows installation in Wine.
struct Wine {
    prefix: PathBuf,
    /// The Windows path of the folder with the library that this Wine lacks.
    random: String,
    _screen: Running,
}

/// Checks the ZIP, then the installer for users, then that for administrators.
pub(super) fn check(release: &Release) -> anyhow::Result<()> {
    if output("wine", &["--version"]).is_none() || output("Xvfb", &["-help"]).is_none() {
        tools::install_packages(&PACKAGES)?;
    }
    let wine = Wine::new(release)?;
    let folder = release.work("check-windows")?;
    for program in [Program::Worker, Program::Server] {
        let zip = release.file(program.name(), &format!("{SYSTEM}.zip"));
        zip::ZipArchive::new(fs::File::open(zip)?)?.extract(&folder)?;
        let executable = folder.join(release.file_name(program.name(), SYSTEM)).join(format!("{}.exe", program.name()));
        resources(release, &executable)?;
        run(wine.run(&executable).arg("--version"))?;
    }
    setup(release, &wine)?;
    msi(release, &wine)
}

/// Icon, version and manifest must be there, and no build path.
fn resources(release: &Release, executable: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(executable)?;
    if !release.development {
        tells_no_path(&executable.to_string_lossy(), &bytes)?;
    }
    let wide: Vec<u8> = release.version.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let has = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    match RESOURCES.into_iter().find(|name| !has(name.as_bytes())) {
        Some(name) => bail!("{} has no {name}", executable.display()),
        None if !has(&wide) => bail!("{} tells no version", executable.display()),
        None => Ok(()),
    }
}

/// Installs silently, compares vectors, works for a session, and uninstalls: first the program, then the data as well.
fn setup(release: &Release, wine: &Wine) -> anyhow::Result<()> {
    let installed = wine.user("AppData/Local/Programs/ChaarFM Worker")?;
    let executable = installed.join("chaarfm-worker.exe");
    let data = wine.user("AppData/Local/chaarfm-worker")?;
    let menu = wine.user("AppData/Roaming/Microsoft/Windows/Start Menu/Programs/ChaarFM Worker.lnk")?;
    let uninstall = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Uninstall\ChaarFM Worker";
    let links = r"HKCU\Software\Classes\chaarfm\shell\open\command";
    let autostart = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Run";
    for data_too in [false, true] {
        run(wine.run(&setup_file(release)).args(["/S", if data_too { "/AUTOSTART=0" } else { "/AUTOSTART=1" }]))?;
        if !(executable.exists() && menu.exists()) {
            bail!("the installer installed no {}, or no {}", executable.display(), menu.display());
        }
        let command = wine.registry(links)?.context("the installer registered no links")?;
        if !command.contains("chaarfm-worker.exe\" \"%1\"") {
            bail!("links are opened by {command}");
        }
        let starts = wine.registry(autostart)?.is_some_and(|values| values.contains("chaarfm-worker.exe"));
        if starts == data_too {
            bail!("the worker starts by itself: {starts}, which is not what was asked for");
        }
        wine.analyse(&executable)?;
        if !data_too {
            work_for_a_session(release, wine, &executable)?;
            service(wine, &executable, autostart)?;
            tests(wine, &executable)?;
        }
        fs::create_dir_all(&data)?;
        let mut command = wine.run(&installed.join("uninstall.exe"));
        run(command.arg("/S").args(data_too.then_some("/DATA=1")))?;
        // The uninstaller continues as a copy of itself, so that it can delete itself.
        wait_for("the end of the uninstaller", || Ok(!installed.exists()))?;
        if menu.exists() {
            bail!("the uninstaller left the entry in the menu");
        }
        for key in [uninstall, links] {
            if wine.registry(key)?.is_some() {
                bail!("the uninstaller left {key}");
            }
        }
        if wine.registry(autostart)?.is_some_and(|values| values.contains("chaarfm-worker")) {
            bail!("the uninstaller left the start with Windows");
        }
        if data.exists() == data_too {
            bail!("the data is there: {}, which is not what was asked for", data.exists());
        }
    }
    Ok(())
}

/// The worker on Windows finishes a session of a coordinator on this machine.
fn work_for_a_session(release: &Release, wine: &Wine, executable: &Path) -> anyhow::Result<()> {
    let folder = release.work("check-windows-server")?;
    let server = unpack(release, Program::Server, HERE, &folder)?;
    let music = folder.join("music");
    fs::create_dir_all(&music)?;
    for name in FIXTURES {
        fs::copy(fixture(name), music.join(name))?;
    }
    let server = || {
        let mut command = Command::new(&server);
        command.arg("--data").arg(folder.join("data"));
        command
    };
    let mut command = server();
    command.arg("--listen").arg(format!("127.0.0.1:{PORT}"));
    let _coordinator = Running::start(command.arg("--library").arg(music))?;
    let session = Session::start(PORT, "music", &mut server())?;
    let mut command = wine.run(executable);
    command.args(["--url", session.coordinator(), "--code", &session.code, "--device", "flex", "--log", "info"]);
    let _worker = Running::start(&mut command)?;
    session.finish()
}

/// The service is a start-up program, which `status` must find until it is uninstalled.
fn service(wine: &Wine, executable: &Path, autostart: &str) -> anyhow::Result<()> {
    let service = |arguments: &[&str]| wine.run(executable).arg("service").args(arguments).output();
    let installed = service(&["install", "--", "--url", "http://127.0.0.1:9", "--code", "K7Q-M4X-WDP"])?;
    let entry = wine.registry(autostart)?.unwrap_or_default();
    if !(installed.status.success() && entry.contains("K7Q-M4X-WDP")) {
        bail!("the service was not installed: {installed:?}, {entry}");
    }
    let status = service(&["status"])?;
    if !String::from_utf8_lossy(&status.stdout).starts_with("installed") {
        bail!("the service is not found: {status:?}");
    }
    if !service(&["uninstall"])?.status.success() {
        bail!("the service was not uninstalled");
    }
    match wine.registry(autostart)? {
        Some(entry) if entry.contains("chaarfm-worker") => bail!("the service was left behind: {entry}"),
        _ => Ok(()),
    }
}

/// Runs [`TESTS`] with this executable.
fn tests(wine: &Wine, executable: &Path) -> anyhow::Result<()> {
    tools::install_browser()?;
    run(&mut native(&PROGRAMS_AND_TESTS))?;
    let mut tests = native(&["test"]);
    tests.args(TESTS.iter().flat_map(|name| ["--test", name])).args(["--", "--test-threads=1"]);
    wine.lend(&mut tests);
    run(tests.env("CHAARFM_TEST_WORKER", executable).env("CHAARFM_TEST_RUNNER", "wine"))
}

fn msi(release: &Release, wine: &Wine) -> anyhow::Result<()> {
    let installed = wine.prefix.join("drive_c/Program Files/ChaarFM Worker");
    let executable = installed.join("chaarfm-worker.exe");
    let file = wine.windows_path(&msi_file(release))?;
    run(wine.run(Path::new("msiexec")).args(["/i", &file, "/qn"]))?;
    wine.analyse(&executable)?;
    run(wine.run(Path::new("msiexec")).args(["/x", &format!("{{{}}}", product_code(release)), "/qn"]))?;
    if executable.exists() || wine.registry(r"HKLM\Software\Classes\chaarfm")?.is_some() {
        bail!("the MSI left {} or its key behind", installed.display());
    }
    Ok(())
}

impl Wine {
    fn new(release: &Release) -> anyhow::Result<Wine> {
        let prefix = release.work("check-wine")?;
        let tools = release.work("check-wine-tools")?;
        let source = Path::new("bcryptprimitives.c");
        let mut tree = Tree::default();
        tree.add("bcryptprimitives.c", RANDOM);
        tree.write_into(&tools)?;
        let mut command = program("x86_64-w64-mingw32-gcc", &["-shared", "-O2", "-o", "bcryptprimitives.dll"]);
        run(command.arg(source).arg("-ladvapi32").current_dir(&tools))?;
        let screen = Running::start(&mut program("Xvfb", &[SCREEN, "-nolisten", "tcp"]))?;
        let mut wine = Wine { prefix, random: String::new(), _screen: screen };
        run(wine.run(Path::new("wineboot")).arg("--init"))?;
        wine.random = wine.windows_path(&tools)?;
        Ok(wine)
    }

    /// Runs a program in Wine.
    fn run(&self, executable: &Path) -> Command {
        let mut command = program("wine", &[]);
        self.lend(command.arg(executable));
        command
    }

    /// Makes a command, and the programs it starts, use this Windows installation.
    fn lend(&self, command: &mut Command) {
        command.env("WINEPREFIX", &self.prefix).env("WINEDEBUG", "-all").env("DISPLAY", SCREEN);
        // Disables .NET and HTML components, which Wine would offer to install.
        command.env("WINEDLLOVERRIDES", "mscoree,mshtml=").env("WINEPATH", &self.random);
    }

    fn analyse(&self, executable: &Path) -> anyhow::Result<()> {
        let files =
            FIXTURES.map(|name| self.windows_path(&fixture(name))).into_iter().collect::<Result<Vec<_>, _>>()?;
        compare_vectors(&printed(self.run(executable).args(["analyze", "--json", "--device", "flex"]).args(files))?)
    }

    /// A path below the user's folder.
    fn user(&self, path: &str) -> anyhow::Result<PathBuf> {
        for entry in fs::read_dir(self.prefix.join("drive_c/users"))? {
            let entry = entry?;
            if entry.file_name() != "Public" {
                return Ok(entry.path().join(path));
            }
        }
        bail!("this Windows has no user")
    }

    fn windows_path(&self, path: &Path) -> anyhow::Result<String> {
        Ok(printed(self.run(Path::new("winepath")).arg("--windows").arg(path))?.trim().to_owned())
    }

    /// The values of a registry key, if it exists.
    fn registry(&self, key: &str) -> anyhow::Result<Option<String>> {
        let output = self.run(Path::new("reg")).args(["query", key]).output()?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}
