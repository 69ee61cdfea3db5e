#!/usr/bin/env python3
"""Writes a model of the Llama architecture with random weights, in half precision, for measuring and nothing else.

Its vocabulary has one token a byte and merges none that a prompt holds, so that token counts can be told from the text.
What it says is noise; what it costs is what weights of this shape cost.
"""

import argparse

import gguf
import numpy as np

START, END = 256, 257


def byte_names():
    """The characters by which byte-pair vocabularies name the 256 bytes (GPT-2): printable ones stand for themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in printable)
    names = {byte: chr(byte) for byte in printable}
    names.update((byte, chr(0x100 + place)) for place, byte in enumerate(others))
    return [names[byte] for byte in range(256)]


def vocabulary(writer):
    names = byte_names()
    # The format wants one merge: of two control characters.
    merged = names[0] + names[1]
    tokens = [*names, "<s>", "</s>", merged]
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([normal] * 256 + [control, control, normal])
    writer.add_token_merges([f"{names[0]} {names[1]}"])
    writer.add_bos_token_id(START)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(False)
    return len(tokens)


def weights(writer, shape, tokens):
    random = np.random.default_rng(shape.seed)
    kv_size = shape.hidden // shape.heads * shape.kv_heads

    def matrix(name, rows, columns):
        values = random.standard_normal((rows, columns), dtype=np.float32) / np.sqrt(columns)
        writer.add_tensor(f"{name}.weight", values.astype(np.float16))

    def norm(name):
        writer.add_tensor(f"{name}.weight", np.ones(shape.hidden, dtype=np.float32))

    matrix("token_embd", tokens, shape.hidden)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm")
        matrix(f"{block}.attn_q", shape.hidden, shape.hidden)
        matrix(f"{block}.attn_k", kv_size, shape.hidden)
        matrix(f"{block}.attn_v", kv_size, shape.hidden)
        matrix(f"{block}.attn_output", shape.hidden, shape.hidden)
        norm(f"{block}.ffn_norm")
        matrix(f"{block}.ffn_gate", shape.feed_forward, shape.hidden)
        matrix(f"{block}.ffn_up", shape.feed_forward, shape.hidden)
        matrix(f"{block}.ffn_down", shape.hidden, shape.feed_forward)
    norm("output_norm")
    matrix("output", tokens, shape.hidden)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--feed-forward", type=int, default=1408)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--kv-heads", type=int, default=4)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=1)
    shape = parser.parse_args()

    writer = gguf.GGUFWriter(shape.out, "llama")
    writer.add_name("random-llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = vocabulary(writer)
    writer.add_vocab_size(tokens)
    weights(writer, shape, tokens)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
