use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    name: Option<String>,
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    places: Vec<String>,
    manners: Manners,
}

#[derive(Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Manners {
    power: Option<u8>,
    quiet: bool,
}

/// A file with this text.
fn file(text: &str) -> (tempfile::TempDir, ConfigFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/config.toml");
    write(&path, text).unwrap();
    (folder, ConfigFile { path: Some(path), is_named: false })
}

#[test]
fn errors_name_the_file_the_line_and_the_key() {
    for (text, place, reason) in [
        ("name = 5", ", line 1, name: ", "invalid type: integer `5`, expected a string"),
        ("\n\nport = \"many\"\n", ", line 3, port: ", "invalid digit"),
        ("[manners]\npower = 500\n", ", line 2, manners.power: ", "500"),
        ("manners = { quiet = 1 }", ", line 1, manners.quiet: ", "invalid type"),
        ("manners.quiet = \"no\"", ", line 1, manners.quiet: ", "invalid type"),
        ("places = [\n  \"a\",\n  7,\n]", ", line 3, places: ", "invalid type"),
        ("# a\nnmae = \"x\"", ", line 2, nmae: ", "unknown field `nmae`"),
        ("[manners]\npower = 1\n[maners]\n", ", line 3", "unknown field `maners`"),
        ("name = \"x\"\nname = \"y\"", ", line 2", "duplicate key"),
        ("name = ", ", line 1: ", ""),
        ("name \u{fffd}", ", line 1: ", ""),
        ("[manners", ", line 1: ", ""),
    ] {
        let (_folder, file) = file(text);
        let error = file.read::<Settings>().unwrap_err().to_string();
        let path = file.path().unwrap().display().to_string();
        assert!(error.starts_with(&format!("{path}{place}")), "{text}: {error}");
        assert!(error.contains(reason) && !error.contains('\n'), "{text}: {error}");
    }
}

#[test]
fn a_file_that_was_named_has_to_be_there_and_no_file_may_be_long() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let named = ConfigFile::find("chaarfm-test", Some(path.clone()));
    let error = named.read::<Settings>().unwrap_err().to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
    let found = ConfigFile { is_named: false, ..named.clone() };
    assert_eq!(found.read::<Settings>().unwrap(), Settings::default());
    fs::write(&path, "#".repeat(MAX_BYTES as usize + 1)).unwrap();
    let error = named.read::<Settings>().unwrap_err().to_string();
    assert!(error.ends_with("it has 262145 bytes; the limit is 262144"), "{error}");
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(named.read::<Settings>(), Err(ConfigError::Read { .. })));
}

#[test]
fn what_is_set_leaves_the_rest_of_the_file_as_it_is() {
    let text = "# mine\nname = \"x\" # who\n\n[manners]\n# how much\npower = 50 # percent\nquiet = true\n";
    let (_folder, file) = file(text);
    let set = |power, quiet| file.set("manners", &["power", "quiet"], &Manners { power, quiet }).unwrap();
    let now = || fs::read_to_string(file.path().unwrap()).unwrap();
    set(Some(50), true);
    assert_eq!(now(), text);
    set(Some(20), false);
    assert_eq!(now(), text.replace("power = 50", "power = 20").replace("true", "false"));
    set(None, false);
    assert!(!now().contains("power =") && now().contains("name = \"x\" # who"), "{}", now());
    set(Some(7), true);
    assert_eq!(file.read::<Settings>().unwrap().manners, Manners { power: Some(7), quiet: true });
}

#[test]
fn what_is_set_makes_a_file_and_destroys_none() {
    let folder = tempfile::tempdir().unwrap();
    let new = ConfigFile { path: Some(folder.path().join("a/b/config.toml")), is_named: false };
    new.set("manners", &["quiet"], &Manners { power: None, quiet: true }).unwrap();
    assert!(new.read::<Settings>().unwrap().manners.quiet);
    let (_folder, broken) = file("[manners\n");
    broken.set("manners", &["quiet"], &Manners::default()).unwrap_err();
    assert_eq!(fs::read_to_string(broken.path().unwrap()).unwrap(), "[manners\n");
    let (_folder, other) = file("manners = 7\n");
    let error = other.set("manners", &["quiet"], &Manners::default()).unwrap_err().to_string();
    assert!(error.ends_with("manners is no table"), "{error}");
}

#[test]
fn what_is_appended_is_in_the_list_once() {
    let (_folder, with_table) = file("# mine\nname = \"x\" # who\n\n[manners]\nquiet = true\n");
    let now = |file: &ConfigFile| fs::read_to_string(file.path().unwrap()).unwrap();
    for text in ["/a", "/b", "/a"] {
        with_table.append("places", text).unwrap();
    }
    let expected = "# mine\nname = \"x\" # who\nplaces = [\"/a\", \"/b\"]\n\n[manners]\nquiet = true\n";
    assert_eq!(now(&with_table), expected);
    let (_folder, other) = file("places = \"/a\"\n");
    let error = other.append("places", "/b").unwrap_err().to_string();
    assert!(error.ends_with("places is no list"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let new = ConfigFile { path: Some(folder.path().join("a/config.toml")), is_named: false };
    new.append("places", "/a").unwrap();
    assert_eq!(now(&new), "places = [\"/a\"]\n");
}

#[test]
fn the_command_says_what_holds_and_writes_an_example_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = ConfigFile { path: Some(folder.path().join("a/config.toml")), is_named: false };
    let run = |command: ConfigCommand| {
        let mut out = Vec::new();
        let effective = |settings: Settings| Settings { port: Some(80), ..settings };
        let done = command.run::<Settings, _>(&file, "name = \"example\"\n", effective, &mut out);
        (done.map_err(|error| format!("{error:#}")), String::from_utf8(out).unwrap())
    };
    let path = file.path().unwrap().display().to_string();
    assert_eq!(run(ConfigCommand::Path), (Ok(()), format!("{path}\n")));
    assert!(run(ConfigCommand::Check).1.starts_with("there is no "));
    assert_eq!(run(ConfigCommand::Init), (Ok(()), format!("{path}\n")));
    assert_eq!(run(ConfigCommand::Init).0, Err(format!("{path} is there already")));
    assert_eq!(run(ConfigCommand::Check), (Ok(()), format!("{path} is in order\n")));
    let shown = run(ConfigCommand::Show).1;
    assert!(shown.contains("name = \"example\"") && shown.contains("port = \"80\""), "{shown}");
    fs::write(file.path().unwrap(), "x = 1").unwrap();
    assert!(run(ConfigCommand::Check).0.unwrap_err().contains("line 1, x: unknown field"));
}
