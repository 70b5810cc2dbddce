//! Installs missing programs for the build and the tests: trunk and wasm-bindgen at pinned versions into the target
//! folder, moto into a Python environment there, Chromium and PostgreSQL from the system's packages.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use chaarfm_test_postgres::newest_version;

use crate::run::{cargo, output, program, root, run, target_dir};

/// 0.22 needs a newer compiler; 0.21.14 only builds with its own lock file.
const TRUNK_VERSION: &str = "0.21.14";

/// The target of all browser programs.
pub const WASM: &str = "wasm32-unknown-unknown";

/// Debian packages for the tests in a browser and on a software GPU.
const BROWSER_PACKAGES: [&str; 4] = ["chromium", "chromium-driver", "mesa-vulkan-drivers", "libvulkan1"];

/// An S3 server with all its dependencies, as a requirements file for pip.
const MOTO: &str = include_str!("../../server/tests/s3/requirements.txt");

/// The Debian release whose pgvector source is built on older releases.
const PGVECTOR_RELEASE: &str = "trixie";

/// Installs the standard library of the browser's target if missing.
pub fn install_wasm_target() -> anyhow::Result<()> {
    let libraries =
        output("rustc", &["--print", "target-libdir", "--target", WASM]).context("rustc does not answer")?;
    if !Path::new(libraries.trim()).exists() {
        run(&mut program("rustup", &["target", "add", WASM]))?;
    }
    Ok(())
}

/// Installs the tools that build the pages if missing.
pub fn install_build_tools() -> anyhow::Result<()> {
    install_wasm_target()?;
    install("trunk", "trunk", TRUNK_VERSION, &["--no-default-features", "--locked"])?;
    install_wasm_bindgen()
}

/// Installs wasm-bindgen and its test runner if missing.
pub fn install_wasm_bindgen() -> anyhow::Result<()> {
    let wasm_bindgen = locked_version("wasm-bindgen")?;
    // Without its lock file, because not every package index has its versions.
    install("wasm-bindgen", "wasm-bindgen-cli", &wasm_bindgen, &["--no-default-features"])
}

/// Installs the tools for the tests if missing.
pub fn install_test_tools() -> anyhow::Result<()> {
    install_browser()?;
    install_moto()?;
    install_postgres()
}

/// Installs a browser, and software Vulkan and WebGPU, if missing.
pub fn install_browser() -> anyhow::Result<()> {
    let vulkan = PathBuf::from("/usr/share/vulkan/icd.d");
    let has_vulkan = fs::read_dir(vulkan).is_ok_and(|mut files| files.next().is_some());
    let has = |program: &str| output(program, &["--version"]).is_some();
    if !(has("chromium") && has("chromedriver") && has_vulkan) {
        install_packages(&BROWSER_PACKAGES)?;
    }
    Ok(())
}

/// Installs a database server with the vector type if missing.
pub fn install_postgres() -> anyhow::Result<()> {
    if newest_version().is_none() {
        install_packages(&["postgresql"])?;
    }
    install_pgvector()
}

/// Installs the S3 server if these versions are missing.
fn install_moto() -> anyhow::Result<()> {
    python_environment("moto", MOTO).map(|_| ())
}

/// Returns the Python environment `name` in the target folder. Installs it if pip's `requirements` have changed or it is
/// missing.
///
/// # Errors
/// When Python is missing, or its package index lacks the packages.
pub fn python_environment(name: &str, requirements: &str) -> anyhow::Result<PathBuf> {
    let folder = target_dir().join("tools").join(name);
    let note = folder.join("installed");
    if fs::read_to_string(&note).is_ok_and(|installed| installed == requirements) {
        return Ok(folder);
    }
    if output("python3", &["-c", "import ensurepip, venv"]).is_none() {
        install_packages(&["python3-venv"])?;
    }
    println!("installing {name} into {}", folder.display());
    run(program("python3", &["-m", "venv", "--clear"]).arg(&folder))?;
    let python = folder.join("bin").join("python");
    let list = folder.join("requirements.txt");
    fs::write(&list, requirements)?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(program(&python.to_string_lossy(), &install).arg(&list))?;
    fs::rename(list, note)?;
    Ok(folder)
}

/// Installs PostgreSQL's vector type if missing. Debian has a package from version 13 on; for older releases it is built
/// from Debian's source. Only the headers of PostgreSQL's development package are unpacked, because installing it would
/// bring all of LLVM.
fn install_pgvector() -> anyhow::Result<()> {
    let postgres = newest_version().context("there is no PostgreSQL in /usr/lib/postgresql")?;
    let control = format!("/usr/share/postgresql/{postgres}/extension/vector.control");
    let package = format!("postgresql-{postgres}-pgvector");
    if Path::new(&control).exists() || install_packages(&[&package]).is_ok() {
        return Ok(());
    }
    let folder = target_dir().join("tools").join("pgvector");
    // Leftovers of an earlier attempt would interfere.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let headers = format!("postgresql-server-dev-{postgres}");
    run(program("apt-get", &["download", "--quiet", &headers]).current_dir(&folder))?;
    let list = folder.join("sources.list");
    let archives = output("apt-get", &["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let archives = archives.unwrap_or_default();
    let archive = archives.lines().find(|address| address.trim_end_matches('/').ends_with("/debian"));
    let archive = archive.with_context(|| format!("the tests need {package}: please install it"))?;
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    fs::write(&list, format!("deb-src [signed-by={key}] {archive} {PGVECTOR_RELEASE} main\n"))?;
    // Separate package lists, so that the system's package sources stay unchanged.
    let lists = folder.join("lists");
    fs::create_dir_all(lists.join("partial"))?;
    let option = |name: &str, path: &Path| format!("-oDir::{name}={}", path.display());
    let options = [
        option("Etc::SourceList", &list),
        option("Etc::SourceParts", Path::new("/dev/null")),
        option("State::Lists", &lists),
    ];
    run(program("apt-get", &["update", "--quiet"]).args(&options))?;
    run(program("apt-get", &["source", "--quiet", "--download-only", "pgvector"]).args(&options).current_dir(&folder))?;
    let config = format!("PG_CONFIG=/usr/lib/postgresql/{postgres}/bin/pg_config");
    let headers = folder.join(format!("headers/usr/include/postgresql/{postgres}/server"));
    let headers = format!("includedir_server={}", headers.display());
    let build = "dpkg -x postgresql-server-dev-*.deb headers &&
        mkdir source && tar -xzf pgvector_*.orig.tar.gz -C source --strip-components=1 &&
        make -C source OPTFLAGS= with_llvm=no \"$@\" && make -C source with_llvm=no \"$@\" install";
    run(program("sh", &["-c", build, "build", &config, &headers]).current_dir(&folder))
        .with_context(|| format!("the tests need {package}: please install it"))
}

/// Installs system packages.
///
/// # Errors
/// Names the packages if `apt-get` is missing or does not have them.
pub fn install_packages(packages: &[&str]) -> anyhow::Result<()> {
    println!("installing {}", packages.join(" "));
    // Installs only what is needed, and changes or removes no installed package.
    let install = ["install", "--yes", "--quiet", "--no-install-recommends", "--no-upgrade", "--no-remove"];
    let install = || -> anyhow::Result<()> {
        run(&mut program("apt-get", &["update", "--quiet"]))?;
        run(program("apt-get", &install).args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    install().with_context(|| format!("the tests need {}: please install them", packages.join(", ")))
}

/// `PATH` with the installed tools in front.
pub fn path() -> anyhow::Result<OsString> {
    let old = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(std::iter::once(bin()).chain(env::split_paths(&old)))?)
}

/// The version of a package in `Cargo.lock`.
fn locked_version(package: &str) -> anyhow::Result<String> {
    let manifest = root().join("Cargo.toml");
    // `registry+https://…#wasm-bindgen@0.2.130`
    let identifier = output("cargo", &["pkgid", "--locked", "--manifest-path", &manifest.to_string_lossy(), package]);
    let version = identifier.as_deref().and_then(|line| line.trim().rsplit_once('@'));
    version.map(|(_, version)| version.to_owned()).with_context(|| format!("Cargo.lock does not list {package}"))
}

fn bin() -> PathBuf {
    target_dir().join("tools").join("bin")
}

/// Whether the program found through `path()` has exactly this version.
fn has_version(program: &str, version: &str) -> bool {
    let installed = bin().join(program);
    let program = if installed.exists() { installed.to_string_lossy().into_owned() } else { program.to_owned() };
    output(&program, &["--version"]).is_some_and(|text| text.split_whitespace().any(|word| word == version))
}

/// Installs `version` of a program from its package if missing.
///
/// Built without optimisation and TLS, which saves minutes: these programs do little work and download nothing.
///
/// # Errors
/// When the package does not compile.
pub fn install(program: &str, package: &str, version: &str, extra: &[&str]) -> anyhow::Result<()> {
    if has_version(program, version) {
        return Ok(());
    }
    println!("installing {package} {version} into {}", bin().display());
    let root = target_dir().join("tools");
    let mut command = cargo(&["install", "--debug", "--version", version, package]);
    command.args(extra).args(["--root".as_ref(), root.as_os_str()]);
    command.env("CARGO_PROFILE_DEV_DEBUG", "false");
    run(&mut command).with_context(|| format!("cannot install {package} {version}"))
}
