//! Rebuilds `models/`: checkpoints in TensorFlow's layout to weights in ours, and the manifest.
//!
//! Usage: `convert_models FROM TO`, where FROM holds `NAME.tf-layout.safetensors` as `models/export_checkpoint.py`
//! writes them. `cargo xtask models --from FROM` calls this.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use chaarfm_analysis::{Backend, Device, known_answer, weights::convert};
use chaarfm_models::Manifest;
use sha2::{Digest, Sha256};

const SOURCE: &str = "musicnn 0.1.0, Python package (https://pypi.org/project/musicnn/0.1.0/)";
const LICENCE: &str = "ISC";
const NOTICE: &str =
    "Copyright (c) Music Technology Group, Universitat Pompeu Fabra 2019. Code developed by Jordi Pons.";

/// Name, description, and tags in output order (`musicnn/configuration.py` of the source).
const MODELS: [(&str, &str, &str); 2] = [
    (
        "msd-musicnn",
        "MusicNN trained on the Million Song Dataset",
        "rock,pop,alternative,indie,electronic,female vocalists,dance,00s,alternative rock,jazz,beautiful,metal,\
         chillout,male vocalists,classic rock,soul,indie rock,Mellow,electronica,80s,folk,90s,chill,instrumental,punk,\
         oldies,blues,hard rock,ambient,acoustic,experimental,female vocalist,guitar,Hip-Hop,70s,party,country,\
         easy listening,sexy,catchy,funk,electro,heavy metal,Progressive rock,60s,rnb,indie pop,sad,House,happy",
    ),
    (
        "mtt-musicnn",
        "MusicNN trained on MagnaTagATune",
        "guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,vocal,synth,female,\
         indian,opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,woman,male vocal,no vocal,pop,soft,\
         sitar,solo,man,classic,choir,voice,new age,dance,male voice,female vocal,beats,harp,cello,no voice,weird,\
         country,metal,female voice,choral",
    ),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else { bail!("usage: convert_models FROM TO") };
    let (from, to) = (Path::new(from), Path::new(to));
    let device = pollster::block_on(Device::open(Backend::Flex))?;
    let mut manifests = Vec::new();
    for (name, description, tags) in MODELS {
        let path = from.join(format!("{name}.tf-layout.safetensors"));
        let checkpoint = fs::read(&path).with_context(|| path.display().to_string())?;
        let weights = convert(&checkpoint, SOURCE, LICENCE).map_err(anyhow::Error::msg)?;
        let file = format!("{name}.safetensors");
        fs::write(to.join(&file), &weights)?;
        let known_answer = pollster::block_on(known_answer(&device, &weights))?;
        manifests.push(Manifest {
            name: name.to_owned(),
            version: "1".to_owned(),
            description: description.to_owned(),
            source: SOURCE.to_owned(),
            licence: LICENCE.to_owned(),
            notice: NOTICE.to_owned(),
            file,
            sha256: sha256(&weights),
            source_sha256: sha256(&checkpoint),
            embedding_length: known_answer.len(),
            tags: tags.split(',').map(str::to_owned).collect(),
            known_answer,
        });
    }
    fs::write(to.join("manifest.json"), serde_json::to_string_pretty(&manifests)? + "\n")?;
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
