"""All families of hostile files; each has cases()."""

from hostile import (
    chat_cases,
    config_cases,
    drafter_cases,
    folder_cases,
    gguf_cases,
    gguf_model_cases,
    hf_model_cases,
    index_cases,
    safetensors_cases,
    tokenizer_cases,
)

FAMILIES = (
    safetensors_cases,
    index_cases,
    folder_cases,
    gguf_cases,
    gguf_model_cases,
    config_cases,
    hf_model_cases,
    tokenizer_cases,
    drafter_cases,
    chat_cases,
)
