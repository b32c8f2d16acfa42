//! Compiles the protos in Rust (protox): no protoc needed on the building machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["trust.proto", "config.proto", "raft.proto", "admin.proto", "join.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
