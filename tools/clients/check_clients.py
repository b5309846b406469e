"""Runs Neuronpedia's own Python clients, unmodified, against a running `kernelscope serve` of the demo: every method that the server answers, in its forms for one text and for several.

Usage: check_clients.py --webapp DIR [--inference DIR] [--public URL] [--server URL]
  --webapp DIR     webapp-python-client of github.com/hijohnnylin/neuronpedia (distribution `neuronpedia` 2.0.0; needs requests, python-dotenv, pydantic)
  --inference DIR  apps/inference of the same: the models that its server reads requests with and answers with, from which its published clients are generated (needs pydantic 2 only)
  --public URL     default http://localhost:3000, the only address that the first client knows by itself
  --server URL     default http://127.0.0.1:5002

Prints a line a method; exit code 1 if one raised or gave a value of another kind or size than its caller expects.
"""
import argparse, contextlib, io, json, math, os, sys, traceback, urllib.error, urllib.request

MODEL, SOURCE, SET, OTHER, FEATURE = "demo", "3-demo-res-2k__l0-19", "demo-res-2k", "3-demo-att-1k__l0-42", 1738
TEXT, SECOND = "More than anything she wished for a golden ring.", "And the king said, Let there be light."
CHAT = [{"role": "user", "content": "What is a ring?"}]
failures = 0

def check(name, run):
    global failures
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            value = run()
        print(f"ok    {name}: {value}")
    except Exception as error:
        failures += 1
        print(f"FAIL  {name}: {type(error).__name__}: {error}\n{traceback.format_exc(limit=-2)}{said.getvalue()}")

def require(holds, what):
    if not holds:
        raise AssertionError(what)

def numbers(values):
    require(all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values), f"not numbers: {values[:5]}")
    return list(values)

def texts(values):
    require(len(values) > 0 and all(isinstance(v, str) for v in values), f"not texts: {values[:5]}")
    return list(values)

def pair(tokens, values):
    require(len(texts(tokens)) == len(numbers(values)), f"{len(tokens)} tokens and {len(values)} values")
    return f"{len(tokens)} tokens, largest {max(values):.4f}"

def refused(run, kind, words=""):
    try:
        run()
    except kind as error:
        require(words in str(error), f"'{error}' does not say '{words}'")
        return f"refused: {str(error)[:100]}"
    raise AssertionError("not refused")

def webapp(public):
    os.environ["USE_LOCALHOST"] = "true"
    import neuronpedia, requests
    from neuronpedia.np_feature import Feature, SteerFeature
    from neuronpedia.np_sae_feature import SAEFeature
    from neuronpedia.np_source_set import SourceSet
    from neuronpedia.np_vector import NPVector
    from neuronpedia.requests.base_request import NPRequest
    from neuronpedia.requests.source_activation_request import SourceActivationRequest
    from neuronpedia.requests.topk_by_token_request import TopKByTokenRequest
    if public != "http://localhost:3000":
        NPRequest.BASE_URL = public + "/api"
    neuronpedia.set_api_key(os.environ.get("KERNELSCOPE_SECRET", "any"))

    def feature(source, index):
        row = Feature.get(MODEL, source, index)
        require((row.modelId, row.source, str(row.index)) == (MODEL, source, str(index)), f"ids {row.modelId}, {row.source}, {row.index}")
        require(row.density is None or 0 <= row.density <= 1, f"density {row.density}")
        for a in row.activations:
            require(a.index == index and a.source == source, f"activation of {a.source}/{a.index}")
            pair(a.tokens, a.values)
        require([max(a.values) for a in row.activations] == sorted((max(a.values) for a in row.activations), reverse=True), "examples are not by their largest activation")
        for e in row.explanations:
            require(e.index == index and isinstance(e.text, str), f"explanation {e}")
        return f"density {row.density}, {len(row.explanations)} explanations, {len(row.activations)} activations"

    check("Feature.get", lambda: feature(SOURCE, FEATURE))
    check("Feature.get of an attention SAE", lambda: feature(OTHER, 7))
    check("Feature.get of a feature that is not there", lambda: refused(lambda: Feature.get(MODEL, SOURCE, 10**6), requests.exceptions.HTTPError, "404"))

    def raw_row():
        row = SAEFeature.get(MODEL, SOURCE, str(FEATURE))
        require(row.index == str(FEATURE) and json.loads(row.jsonData)["layer"] == SOURCE, "another feature")
        return f"{len(row.jsonData)} characters"
    check("SAEFeature.get", raw_row)

    one = neuronpedia.ActivationRequest()
    def by_feature():
        a = one.compute_activation_for_text(MODEL, SOURCE, str(FEATURE), TEXT)
        both = one.compute_activation_for_texts(MODEL, SOURCE, FEATURE, [TEXT, SECOND])
        require(len(both) == 2 and both[0].values == a.values and both[0].tokens == a.tokens, "the list form gives other values")
        require(max(a.values) > 0, "the feature does not fire on its own text")
        return pair(a.tokens, a.values) + "; " + pair(both[1].tokens, both[1].values)
    check("compute_activation_for_text, _for_texts", by_feature)

    def by_source():
        first = one.compute_all_source_activations_for_text(MODEL, SOURCE, TEXT)
        both = one.compute_all_source_activations_for_text(MODEL, SOURCE, [TEXT, SECOND])
        require(len(first) == 1 and len(both) == 2 and both[0] == first[0], "the list form gives other values")
        a = one.compute_activation_for_text(MODEL, SOURCE, str(FEATURE), TEXT)
        mine = {t: v for t, v in first[0]["activeFeatures"][str(FEATURE)]}
        require(mine == {i + 1: round(v, 3) for i, v in enumerate(a.values) if v > 0}, f"{mine} beside activation/new")
        return f"{len(first[0]['activeFeatures'])} features fire"
    check("compute_all_source_activations_for_text", by_source)

    search = SourceActivationRequest()
    def by_text():
        rows = search.compute_top_features_for_text(MODEL, SOURCE, TEXT)
        both = search.compute_top_features_for_texts(MODEL, [SOURCE], [TEXT, SECOND], num_results=20)
        require(len(both) == 2 and [a.values for a in both[0]] == [a.values for a in rows], "the list form gives other values")
        sorted_at = search.compute_top_features_for_text(MODEL, SOURCE, TEXT, sort_results_by_activations_at_token_indexes=[3], num_results=5)
        require([a.values[3] for a in sorted_at] == sorted((a.values[3] for a in sorted_at), reverse=True), "not by the token that was asked for")
        rare = search.compute_top_features_for_text(MODEL, SOURCE, TEXT, density_threshold=0.01)
        require(all(r.source == SOURCE and pair(r.tokens, r.values) for r in rows + rare), "another source")
        return f"{len(rows)} features, the first {rows[0].index} with {max(rows[0].values):.4f}; {len(rare)} of the rare"
    check("compute_top_features_for_text, _for_texts", by_text)

    top = TopKByTokenRequest()
    def by_token():
        rows = top.compute_top_features_by_token_for_text(MODEL, SOURCE, TEXT, num_results=5)
        both = top.compute_top_features_by_token_for_texts(MODEL, SOURCE, [TEXT, SECOND], num_results=5)
        require(len(both) == 2 and both[0] == rows, "the list form gives other values")
        require(all(isinstance(r.token, str) and isinstance(r.position, int) for r in rows), "kinds")
        for r in rows:
            values = [f.activationValue for f in r.topFeatures]
            require(values == sorted(values, reverse=True) and len(values) <= 5, f"not sorted: {values}")
        found = top.compute_top_features_by_token_for_text(MODEL, SOURCE, TEXT, num_results=5, density_threshold=1, ignore_bos=False)
        require(found[0].position == 0 and len(found[1].topFeatures) == 5, "with BOS")
        return f"{len(rows)} tokens"
    check("compute_top_features_by_token_for_text, _for_texts", by_token)

    def source_set():
        s = SourceSet.get(MODEL, SET)
        require(s.name == SET and s.model_id == MODEL and len(s.sources) > 0, s)
        require(SOURCE in [x.id for x in s.sources], s.sources)
        return f"{[x.id for x in s.sources]}"
    check("SourceSet.get", source_set)

    def vector():
        v = NPVector.get(MODEL, SOURCE, str(FEATURE))
        require(v.source == SOURCE and v.index == str(FEATURE) and isinstance(v.hook_name, str) and v.hook_name, v)
        require(abs(math.sqrt(sum(x * x for x in numbers(v.values))) - 1) < 1e-3, "a decoder row has length 1")
        return f"{len(v.values)} values at {v.hook_name}, label {v.label!r}, strength {v.default_steer_strength}"
    check("NPVector.get", vector)

    def steered(answer):
        require(isinstance(answer["STEERED"], str) and isinstance(answer["DEFAULT"], str), answer)
        return f"{answer['STEERED'][:40]!r} beside {answer['DEFAULT'][:40]!r}"
    check("NPVector.steer_completion", lambda: steered(NPVector.get(MODEL, SOURCE, "69").steer_completion("Once upon a time")))
    completion = neuronpedia.SteerCompletionRequest()
    by_number = [SteerFeature(modelId=MODEL, source=SOURCE, index=69, strength=10)]
    check("SteerCompletionRequest.steer_features", lambda: steered(completion.steer_features(MODEL, by_number, "Once upon a time there lived a miller", temperature=0, strength_multiplier=1)))

    def chat(answer):
        for side in ("STEERED", "DEFAULT"):
            require(isinstance(answer[side]["raw"], str) and answer[side]["chatTemplate"][-1]["role"] in ("model", "assistant"), answer[side])
        return repr(answer["STEERED"]["chatTemplate"][-1]["content"][:50])
    check("NPVector.steer_chat", lambda: chat(NPVector.get(MODEL, SOURCE, "69").steer_chat(CHAT)))
    chats = neuronpedia.SteerChatRequest()
    check("SteerChatRequest.steer_features", lambda: chat(chats.steer_features(MODEL, by_number, CHAT, CHAT, temperature=0, strength_multiplier=1, steer_special_tokens=False)))

    error = requests.exceptions.HTTPError
    check("an empty text", lambda: refused(lambda: one.compute_activation_for_text(MODEL, SOURCE, "1", ""), error, "4"))
    check("an unknown model", lambda: refused(lambda: one.compute_activation_for_text("gpt2-small", SOURCE, "1", TEXT), error, "404"))
    check("an unknown source", lambda: refused(lambda: search.compute_top_features_for_text(MODEL, "9-other", TEXT), error, "404"))
    check("too long a text", lambda: refused(lambda: one.compute_activation_for_text(MODEL, SOURCE, "1", "word " * 9000), error, "Text too long"))
    # What the server has not: a status and JSON, which the client reads.
    from neuronpedia.np_list import NPList
    from neuronpedia.np_model import Model
    for name, run in {
        "ModelRequest.new": lambda: Model.new("m", 3),
        "SourceSet.new": lambda: SourceSet.new("set", MODEL),
        "NPList.get": lambda: NPList.get("list"),
        "NPList.get_owned": NPList.get_owned,
        "NPVector.new": lambda: NPVector.new("label", MODEL, 3, "hook_resid_post", [1.0, 2.0]),
        "NPVector.get_owned": NPVector.get_owned,
        "FeatureRequest.upload_batch": lambda: neuronpedia.FeatureRequest().upload_batch(MODEL, SOURCE, [Feature(MODEL, SOURCE, 1)]),
        "ActivationRequest.upload_batch": lambda: one.upload_batch(MODEL, SOURCE, "1", []),
        "GraphRequest.list_owned": neuronpedia.GraphRequest().list_owned,
        "GraphRequest.generate": lambda: neuronpedia.GraphRequest().generate(MODEL, "prompt", "slug"),
    }.items():
        check(f"{name} (not served)", lambda run=run: refused(run, error, "501"))

def inference(server):
    """The calls of /v1: requests are made by the models that the official server reads with, in both spellings of names, and answers are read by those that it answers with."""
    from neuronpedia_inference import schemas as np
    headers = {"Content-Type": "application/json"}
    if "KERNELSCOPE_SECRET" in os.environ:
        headers["X-SECRET-KEY"] = os.environ["KERNELSCOPE_SECRET"]

    def body(path, text):
        with urllib.request.urlopen(urllib.request.Request(server + "/v1" + path, text.encode(), headers), timeout=120) as answer:
            return answer.read()

    def send(path, request, response):
        spelled = [request.model_dump_json(by_alias=by_alias, exclude_none=True) for by_alias in (True, False)]
        read = [body(path, text) for text in spelled]
        require(read[0] == read[1], "names in snake_case give another answer than in camelCase")
        return response.model_validate_json(read[0], strict=True)

    def refusal(path, request, status):
        try:
            body(path, request.model_dump_json(exclude_none=True))
        except urllib.error.HTTPError as error:
            require(error.code == status, f"{error.code}, not {status}")
            return json.load(error)["error"][:100]
        raise AssertionError("not refused")

    def single():
        ask = dict(model=MODEL, source=SOURCE, index=str(FEATURE))
        a = send("/activation/single", np.ActivationSingleRequest(prompt=TEXT, **ask), np.ActivationSingleResponse)
        both = send("/activation/single-batch", np.ActivationSingleBatchRequest(prompts=[TEXT, SECOND], **ask), np.ActivationSingleBatchResponse)
        require(len(both.results) == 2 and both.results[0].activation == a.activation, "the batch gives other values")
        require(a.activation.values[int(a.activation.max_value_index)] == a.activation.max_value > 0, "the maximum is elsewhere")
        z = send("/activation/single", np.ActivationSingleRequest(prompt=TEXT, model=MODEL, source=OTHER, index="7"), np.ActivationSingleResponse)
        require(len(z.activation.dfa_values) == len(z.tokens) and z.activation.dfa_max_value == max(z.activation.dfa_values), "source attribution")
        return pair(a.tokens, a.activation.values)
    check("/v1/activation/single, single-batch", single)

    def vector_of(index):
        return send("/util/sae-vector", np.UtilSaeVectorRequest(model=MODEL, source=SOURCE, index=index), np.UtilSaeVectorResponse)
    def along():
        v = vector_of(FEATURE)
        a = send("/activation/single", np.ActivationSingleRequest(prompt=TEXT, model=MODEL, vector=v.vector, hook=v.hook_name), np.ActivationSingleResponse)
        return f"{len(numbers(v.vector))} values at {v.hook_name}; " + pair(a.tokens, a.activation.values)
    check("/v1/util/sae-vector, activation/single along a vector", along)

    def everything():
        ask = dict(model=MODEL, source_set=SET, selected_sources=[SOURCE], sort_by_token_indexes=[], ignore_bos=True, num_results=10)
        a = send("/activation/all", np.ActivationAllRequest(prompt=TEXT, **ask), np.ActivationAllResponse)
        both = send("/activation/all-batch", np.ActivationAllBatchRequest(prompts=[TEXT, SECOND], **ask), np.ActivationAllBatchResponse)
        require(len(a.activations) == 10 and both.results[0].activations == a.activations, "the batch gives other values")
        require(all(x.max_value == max(x.values) for x in a.activations), "the maximum is another")
        every = send("/activation/all", np.ActivationAllRequest(prompt=TEXT, **{**ask, "selected_sources": [], "sort_by_token_indexes": [2, 3]}), np.ActivationAllResponse)
        require(all(abs(x.sum_values - x.values[2] - x.values[3]) < 1e-4 for x in every.activations), "the sum is another")
        return f"{a.activations[0].source}/{a.activations[0].index} {a.activations[0].max_value:.4f}"
    check("/v1/activation/all, all-batch", everything)

    def by_token():
        ask = dict(model=MODEL, source=SOURCE, top_k=3, ignore_bos=True)
        a = send("/activation/topk-by-token", np.ActivationTopkByTokenRequest(prompt=TEXT, **ask), np.ActivationTopkByTokenResponse)
        both = send("/activation/topk-by-token-batch", np.ActivationTopkByTokenBatchRequest(prompts=[TEXT, SECOND], **ask), np.ActivationTopkByTokenBatchResponse)
        require(both.results[0].results == a.results and all(len(r.top_features) == 3 for r in a.results), "the batch gives other values")
        require(a.results[0].token_position == 1 and len(a.tokens) == len(a.results), "positions")
        return f"{len(a.results)} tokens"
    check("/v1/activation/topk-by-token, topk-by-token-batch", by_token)

    def source():
        a = send("/activation/source", np.ActivationSourceRequest(prompts=[TEXT, SECOND], model=MODEL, source=SOURCE), np.ActivationSourceResponse)
        require(len(a.results) == 2 and str(FEATURE) in a.results[0].active_features, "the feature does not fire")
        return f"{[len(r.active_features) for r in a.results]} features"
    check("/v1/activation/source", source)

    def raw():
        a = send("/activation/raw", np.ActivationRawRequest(prompts=[TEXT], layers=[0, 3]), np.ActivationRawResponse)
        require([x.layer for x in a.results[0].activations] == [0, 3], a)
        return f"{len(numbers(a.results[0].activations[0].values[0]))} values a layer"
    check("/v1/activation/raw", raw)

    def near():
        f, ask = np.NPFeature(model=MODEL, source=SOURCE, index=FEATURE), dict(model=MODEL, source=SOURCE, num_results=5)
        a = send("/util/sae-topk-by-decoder-cossim", np.UtilSaeTopkByDecoderCossimRequest(feature=f, **ask), np.UtilSaeTopkByDecoderCossimResponse)
        require(len(a.topk_decoder_cossim_features) == 5 and a.feature == f, a)
        send("/util/sae-topk-by-decoder-cossim", np.UtilSaeTopkByDecoderCossimRequest(vector=vector_of(FEATURE).vector, **ask), np.UtilSaeTopkByDecoderCossimResponse)
        return [(x.feature.index, round(x.cosine_similarity, 3)) for x in a.topk_decoder_cossim_features]
    check("/v1/util/sae-topk-by-decoder-cossim", near)

    def tokenize():
        a = send("/tokenize", np.TokenizeRequest(model=MODEL, text=TEXT), np.TokenizeResponse)
        b = send("/tokenize", np.TokenizeRequest(model=MODEL, text=TEXT, prepend_bos=False), np.TokenizeResponse)
        require(a.prepend_bos and not b.prepend_bos and a.tokens[1:] == b.tokens and "".join(b.token_strings) == TEXT, (a, b))
        return f"{len(a.tokens)} tokens"
    check("/v1/tokenize", tokenize)

    def template():
        a = send("/apply-chat-template", np.ApplyChatTemplateRequest(messages=CHAT), np.ApplyChatTemplateResponse)
        require(len(a.tokens) == len(a.spans) and CHAT[0]["content"] in a.prompt, a)
        return repr(a.prompt[:60])
    check("/v1/apply-chat-template", template)

    def asked(**change):
        feature = np.NPSteerFeature(model=MODEL, source=SOURCE, index=69, strength=10.0)
        return {**dict(model=MODEL, steer_method=np.NPSteerMethod.SIMPLE_ADDITIVE, normalize_steering=False, types=list(np.NPSteerType), features=[feature],
            n_completion_tokens=12, temperature=0, strength_multiplier=1, freq_penalty=0, seed=16, n_logprobs=3), **change}
    def steer():
        outputs = {}
        for method in np.NPSteerMethod:
            a = send("/steer/completion", np.SteerCompletionRequest(prompt="Once upon a time", **asked(steer_method=method)), np.SteerCompletionResponse)
            require([o.type for o in a.outputs] == list(np.NPSteerType), a)
            require(all(len(o.logprobs) == 12 and len(o.logprobs[0].top_logprobs) == 3 for o in a.outputs), "logprobs")
            outputs[method.value] = a.outputs[0].output[:25]
        vector = np.NPSteerVector(steering_vector=vector_of(1).vector, strength=1.5, hook="blocks.3.hook_resid_post")
        a = send("/steer/completion", np.SteerCompletionRequest(prompt="Once upon a time", **asked(features=None, vectors=[vector], types=[np.NPSteerType.STEERED])), np.SteerCompletionResponse)
        require(len(a.outputs) == 1, a)
        return outputs
    check("/v1/steer/completion: three methods, features and a vector", steer)

    def chat():
        a = send("/steer/completion-chat", np.SteerCompletionChatRequest(prompt=CHAT, steer_special_tokens=False, **asked()), np.SteerCompletionChatResponse)
        require(len(a.outputs) == 2 and a.outputs[0].chat_template[-1].role in ("model", "assistant"), a)
        return repr(a.outputs[0].chat_template[-1].content[:50])
    check("/v1/steer/completion-chat", chat)

    def streamed(path, request, response):
        frames = body(path, request.model_copy(update={"stream": True}).model_dump_json(exclude_none=True)).decode().split("\n\n")
        require(frames.pop() == "" and all(f.startswith("data: {") for f in frames), frames)
        read = [response.model_validate_json(f[len("data: "):], strict=True) for f in frames]
        require(read[-1] == send(path, request, response), "the last frame is not the answer without a stream")
        return f"{len(read)} frames"
    check("/v1/steer/completion, streamed", lambda: streamed("/steer/completion", np.SteerCompletionRequest(prompt="Once upon a time", **asked()), np.SteerCompletionResponse))
    check("/v1/steer/completion-chat, streamed", lambda: streamed("/steer/completion-chat", np.SteerCompletionChatRequest(prompt=CHAT, steer_special_tokens=True, **asked()), np.SteerCompletionChatResponse))

    check("an unknown source", lambda: refusal("/util/sae-vector", np.UtilSaeVectorRequest(model=MODEL, source="9-other", index=0), 404))
    check("too long a text", lambda: refusal("/activation/source", np.ActivationSourceRequest(prompts=["word " * 9000], model=MODEL, source=SOURCE), 400))
    check("attention (not served)", lambda: refusal("/activation/attention", np.ActivationAttentionRequest(prompt=TEXT, model=MODEL, layer=0, head=0), 501))

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--webapp", metavar="DIR")
parser.add_argument("--inference", metavar="DIR")
parser.add_argument("--public", metavar="URL", default="http://localhost:3000")
parser.add_argument("--server", metavar="URL", default="http://127.0.0.1:5002")
arguments = parser.parse_args()
if not arguments.webapp and not arguments.inference:
    parser.error("name at least one client's folder")
with urllib.request.urlopen(arguments.server + "/health", timeout=10) as answer:
    require(json.load(answer)["status"] == "healthy", "the server is not healthy")
if arguments.webapp:
    sys.path.insert(0, arguments.webapp)
    webapp(arguments.public)
if arguments.inference:
    sys.path.insert(0, arguments.inference)
    inference(arguments.server)
sys.exit(1 if failures else 0)
