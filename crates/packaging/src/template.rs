//! Texts with placeholders: `@NAME@`.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, bail};
use xtask::run::root;

/// Values of the placeholders, by name.
pub(crate) type Values = BTreeMap<&'static str, String>;

/// Reads and fills a file of the folder `packaging`.
pub(crate) fn file(path: &str, values: &Values) -> anyhow::Result<String> {
    let file = root().join("packaging").join(path);
    let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    fill(&text, values).with_context(|| format!("packaging/{path}"))
}

/// Replaces the placeholders.
///
/// # Errors
/// When a placeholder has no value; the error names it.
pub(crate) fn fill(text: &str, values: &Values) -> anyhow::Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, after) = rest.split_at(at);
        filled.push_str(before);
        // Only capitals between two `@` form a placeholder: there are also e-mail addresses and names of actions.
        let place = after[1..].split_once('@');
        match place.filter(|(name, _)| is_name(name)) {
            Some((name, behind)) => {
                let Some(value) = values.get(name) else { bail!("there is no value for @{name}@") };
                filled.push_str(value);
                rest = behind;
            }
            None => {
                filled.push('@');
                rest = &after[1..];
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_places_and_leaves_everything_else() {
        let values = Values::from([("VERSION", "1.2.3".to_owned())]);
        assert_eq!(fill("v@VERSION@, a@b.example, @v@VERSION@", &values).unwrap(), "v1.2.3, a@b.example, @v1.2.3");
        assert_eq!(fill("@", &values).unwrap(), "@");
        assert!(fill("@UNKNOWN@", &values).unwrap_err().to_string().contains("@UNKNOWN@"));
    }
}
