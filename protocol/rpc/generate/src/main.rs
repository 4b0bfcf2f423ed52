//! Writes `protocol/rpc/src/generated` from the `.proto` files; with `--check` it only says whether that is what they say.
//!
//! Not a build script, nor a test of `meridian-rpc`: the compiler of `.proto` files asks more of libraries that Bevy uses too, and Bevy would be built twice.

use std::{env, fs, path::Path};

use anyhow::{Context, ensure};

const PROTOS: &[&str] = &["meridian/v1/game_server.proto"];
const CODE: &str = "meridian.v1.rs";
const DESCRIPTORS: &str = "meridian.bin";

fn main() -> anyhow::Result<()> {
    let checks = env::args().any(|argument| argument == "--check");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let made = tempfile::tempdir().context("cannot make a folder for what is generated")?;
    generate(&root.join("proto"), made.path())?;
    let kept = root.join("src/generated");
    fs::create_dir_all(&kept).context("cannot make src/generated")?;
    for file in [CODE, DESCRIPTORS] {
        let now = fs::read(made.path().join(file)).context("nothing was generated")?;
        if checks {
            let known = fs::read(kept.join(file)).unwrap_or_default();
            ensure!(
                known == now,
                "protocol/rpc/src/generated/{file} is not what the .proto files say; write it anew with `./just generate`"
            );
        } else {
            fs::write(kept.join(file), now).with_context(|| format!("cannot write {file}"))?;
        }
    }
    Ok(())
}

fn generate(protos: &Path, out: &Path) -> anyhow::Result<()> {
    let mut compiler = protox::Compiler::new([protos])?;
    let compiled = compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(PROTOS)?;
    fs::write(out.join(DESCRIPTORS), compiled.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .out_dir(out)
        .compile_fds(compiled.file_descriptor_set())?;
    Ok(())
}
