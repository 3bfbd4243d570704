"""Test support: argument lists that try every option of a parser in ways that it takes and in ways that it does not."""

from collections.abc import Iterator, Mapping

LAUNCHES = """
--enforce-eager
-O0
-O3
-O 3
-O
-O=2
-Ofast
--enable-dbo
--ubatch-size 2
--ubatch_size=2
--dtype float16
--dtype float17
--quantization fp8
-q gguf
-qfp8
--runner pooling --convert classify
--task embed
--swap-space 4
--disable-log-requests
--cc {"mode":3}
--tensor-paralel-size 2
--max-model-len abc
--max-model-len 32k
--max-model-len 1.5K
--max-model-len AUTO
--max-num-batched-tokens 8k
--hf-overrides {"num_hidden_layers":3}
--hf-overrides {"num_hidden_layers":3
--hf-overrides.num_hidden_layers=3
--hf-ov.num_hidden_layers=3
--hf_overrides.architectures+ Foo
--hf-overrides {}
--enable-lora --no-enable-lora
--enable-lora=true
--enable-lora true
--lora-modules a=/x
--enable-expert-parallel --enable-eplb --eplb-config {"num_redundant_experts":2}
--eplb-config.num_redundant_experts=2
--eplb-config.redundant=2
--num-redundant-experts 2
-ep
--speculative-config {"method":"ngram","num_speculative_tokens":2}
-sc.method=mtp -sc.num_speculative_tokens=1
--spec-method mtp
--speculative_config.method mtp
--speculative-config null
--speculative-config None
--tensor-parallel-size 4
--tensor_parallel_size=4
--tensor-parallel-size four
--tensor-parallel-size -1
--tensor-parallel-size 1.0
-tp2
-tp=2
-pp 2
-dp 2
--data-parallel-size-local 2
--data-parallel 2
-cc.mode=0
-cc.cudagraph_mode=FULL
-cc.pass_config.fuse_allreduce_rms=true
-cc.level=0
-cc.splitting_ops+ vllm::moe_forward
-cc
-cc.mode
--attention-backend TRITON_ATTN
--kv-cache-dtype fp8
--kv-cache-dtype fp9
--max-num-seqs 1024
--enable-chunked-prefill
--no-enable-prefix-caching
--no-no-enable-prefix-caching
--additional-config {"skip":true}
--moe-backend triton
--moe-backend TRITON
--moe-backend nothing
--kv-transfer-config {"kv_connector":"X","kv_role":"kv_both"}
--kv-transfer-config {"kv_connectr":"X"}
--kv-transfer-config None
--kv-transfer-config [1]
--kernel-config {}
--distributed-executor-backend ray
--cpu-offload-gb 10
--cpu-offload-gb ten
--cpu-offload-gb -0.5
--cpu-offload-gb=-0.5
--limit-mm-per-prompt {"image":0}
--limit-mm-per-prompt image=0
--generation-config x
--served-model-name x
--served-model-name x y
--middleware evil
--api-key a b
--api-key
--allowed-origins ["*"]
--allowed-origins *
--port 8000
--port eight
--port
--port --host 0.0.0.0
--port -- 8000
-- second
second third
--host 0.0.0.0 second
--help-me
--gpu-mem 0.9
--gpu 0.9
--max 3
--enable
-d 2
-x
-
-5
-5.5
--compilation-config {"fast_moe_cold_start":null}
--seed 1_000
--seed 0x10
--collect-detailed-traces model worker
--collect-detailed-traces model,worker
--max-lora-rank 16
--max-lora-rank 17
--load-format dummy --load-format=auto
--safetensors-load-strategy None
--safetensors-load-strategy lazy
--config=x.yaml
--headless
--headless=1
--uvicorn-log-level warning
--uvicorn-log-level WARNING
--enable-log-requests
""".strip().splitlines()
"""Options behind a model, right and wrong ones."""
WITHOUT_MODEL = [
    [],
    ["--model", "m"],
    ["--model=m", "--port", "1"],
    ["--model"],
    ["--port", "1", "m"],
    ["--port", "1", "--", "m"],
    ["--enforce-eager", "m", "n"],
    ["m", "--model", "n"],
    ["--served-model-name", "a", "--port", "1"],
    ["--served-model-name", "a", "--model", "m"],
    ["--served_model_name=a", "--port", "1"],
    ["--enforce-eager", "--", "m", "n"],
    ["--"],
]
"""Whole lists."""
VALUES = ["2", "abc", "1.5", "", "None", '{"zz": 1}', "{}", "[1]", "1k", "auto", "-1", "{1}"]
"""A value of each kind, for each option."""


def launches() -> Iterator[list[str]]:
    """The lists above."""
    yield from WITHOUT_MODEL
    for line in LAUNCHES:
        yield ["m", *line.split(" ")]


def uses(options: Mapping[str, str]) -> Iterator[list[str]]:
    """Each option of a parser: bare, with each value in one argument or two, dotted, and misspelt."""
    for number, name in enumerate(options):
        if name in {"-h", "--help", "--config"}:
            continue
        yield ["m", name]
        yield ["m", f"{name}.key=1"]
        for place, value in enumerate(VALUES):
            yield ["m", name, value] if (number + place) % 2 else ["m", f"{name}={value}"]
        middle = len(name) // 2
        yield ["m", name[:middle] + name[middle + 1 :], "2"]
        yield ["m", f"{name[:middle]}x{name[middle:]}=2"]
        yield ["m", name[: middle + 3], "2"]
