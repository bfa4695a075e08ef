//! Compiles `messages.proto` twice: messages and client stubs as they are, and server stubs that stream what was
//! encoded before and decode no more than is legal.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=messages.proto");
    let descriptors = protox::compile(["messages.proto"], ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("messages.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        .build_server(false)
        .bytes(".messages")
        .compile_fds(descriptors.clone())?;

    let server = out.join("server");
    std::fs::create_dir_all(&server)?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".messages", "crate")
        .extern_path(".messages.Push", "crate::ReceivedPush")
        .extern_path(".messages.PushBatch", "crate::ReceivedBatch")
        .extern_path(".messages.Message", "crate::Encoded")
        .extern_path(".messages.MessageBatch", "crate::Encoded")
        .out_dir(server)
        .compile_fds(descriptors)?;
    Ok(())
}
