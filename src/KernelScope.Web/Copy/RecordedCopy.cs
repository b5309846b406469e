using System.Globalization;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using KernelScope.Evaluation;
using KernelScope.Web.Dashboards;

namespace KernelScope.Web.Copy;

/// <summary>
/// The demo page and feature pages as files, with the answers that its exercises need: they are asked of a server once and written beside
/// the pages, which then work from a disk or any host of files.
/// </summary>
/// <param name="server">Where the server listens.</param>
/// <param name="modelId">Its model.</param>
/// <param name="source">The source that the exercises are about.</param>
internal sealed class RecordedCopy(Uri server, string modelId, string source) : IDisposable
{
    // As many as run together by default; more would be refused where the queue is full.
    private const int Together = 8;
    private const string New = "/api/activation/new";
    private const string Home = "index.html", Answers = "data/answers.js", Files = "'self' file:";
    private const string Policy =
        $"default-src 'none'; script-src {Files}; style-src {Files}; img-src {Files} data:; base-uri 'none'; form-action 'self'";

    // As JSON.stringify spells it: a page finds an answer by path and body.
    private static readonly JsonSerializerOptions AsPages = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private static readonly (string From, string To)[] Links =
    [
        ("<script type=\"module\" src=\"/",
            "<script src=\"recorded.js\" defer></script>\n<script src=\"data/answers.js\" defer></script>\n<script src=\""),
        (".js\"></script>\n</head>", ".js\" defer></script>\n</head>"),
        ("href=\"/app.css\"", "href=\"app.css\""), ("href=\"/icon.svg\"", "href=\"icon.svg\""),
        ("href=\"/openapi/", "href=\"openapi/"), ("href=\"/\"", "href=\"index.html\""),
        ("<meta charset=\"utf-8\">", $"<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"{Policy}\">"),
    ];

    private readonly HttpClient _client = new() { BaseAddress = server, Timeout = Timeout.InfiniteTimeSpan };
    private readonly JsonObject _answers = [];
    private readonly SortedSet<int> _features = [];

    /// <summary>Whether a folder is one that a copy may replace: it is not there, is empty, or holds a copy.</summary>
    public static bool MayReplace(string folder) =>
        !Directory.Exists(folder) || !Directory.EnumerateFileSystemEntries(folder).Any() || File.Exists(Path.Combine(folder, Answers));

    /// <summary>Asks for all that the pages ask, and writes them.</summary>
    /// <param name="folder">A folder that holds nothing of that name; what is in it when this throws is the caller's to remove.</param>
    /// <param name="labels">Labels; those of the source are searched, and each of its features has a page.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <returns>Features that have a page.</returns>
    public async Task<int> WriteAsync(string folder, FeatureLabels labels, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        JsonNode exercises = Exercises();
        // The page of a feature makes the server read its corpus, by which the answers leave frequent features out.
        _ = await GetAsync(FeaturePath((int)exercises["task"]!), cancellationToken);
        await RecordAsync(exercises, cancellationToken);
        IReadOnlyDictionary<int, string> meanings = labels.Meanings(modelId, source);
        _features.UnionWith(meanings.Keys);
        WritePages(folder);
        WritePacked(folder, Answers, "load(", new JsonObject
        {
            ["answers"] = _answers,
            ["labels"] = LabelsOf(meanings),
            ["features"] = new JsonArray([.. _features.Select(f => (JsonNode)f)]),
        });
        int done = 0;
        foreach (int[] some in _features.Chunk(Together))
        {
            JsonNode[] rows = await Task.WhenAll(some.Select(f => GetAsync(FeaturePath(f), cancellationToken)));
            foreach ((int feature, JsonNode row) in some.Zip(rows))
            {
                string name = string.Create(CultureInfo.InvariantCulture, $"{source}/{feature}");
                WritePacked(folder, $"data/{name}.js", $"feature(\"{name}\",", row);
                progress?.Report(++done / (double)_features.Count);
            }
        }

        return _features.Count;
    }

    public void Dispose() => _client.Dispose();

    private static JsonNode Exercises()
    {
        string text = Encoding.UTF8.GetString(Resources.Read("pages/exercises.js"));
        return JsonNode.Parse(text[text.IndexOf('{', StringComparison.Ordinal)..text.LastIndexOf(';')])!;
    }

    private async Task RecordAsync(JsonNode exercises, CancellationToken cancellation)
    {
        await PostAsync("/api/model/list", new JsonObject(), cancellation);
        await PostAsync("/api/model/get", new JsonObject { ["id"] = modelId }, cancellation);
        foreach (JsonNode? theme in exercises["themes"]!.AsArray().Concat(exercises["recorded"]!.AsArray()))
            await MicroscopeAsync(exercises, (string)theme![1]!, cancellation);
        foreach (string part in (string[])["analyze", "wrong"])
        {
            int feature = (int)exercises[part]!["feature"]!;
            await ActivationsAsync([feature], exercises[part]!["texts"]!, cancellation);
        }

        foreach (JsonNode? puzzle in exercises["puzzles"]!.AsArray())
        {
            int feature = (int)puzzle![0]!;
            await ActivationsAsync([feature], new JsonArray((string)puzzle[1]!), cancellation);
            var named = new JsonObject { ["modelId"] = modelId, ["layer"] = source, ["index"] = Text(feature) };
            await PostAsync("/api/features", new JsonArray(named), cancellation);
        }

        JsonNode presets = await PostAsync("/api/steer/presets", new JsonObject { ["modelId"] = modelId }, cancellation);
        foreach (JsonNode? preset in presets.AsArray())
            await SteerAsync(preset!, (int)exercises["new_tokens"]!, cancellation);
    }

    /// <summary>The features of each token, with and without frequent ones, and each of them on the whole text.</summary>
    private async Task MicroscopeAsync(JsonNode exercises, string text, CancellationToken cancellation)
    {
        var features = new SortedSet<int> { (int)exercises["task"]! };
        foreach (JsonNode threshold in (JsonNode[])[exercises["dense"]!.DeepClone(), -1])
        {
            JsonNode answer = await PostAsync("/api/search-topk-by-token", new JsonObject
            {
                ["modelId"] = modelId,
                ["source"] = source,
                ["text"] = text,
                ["numResults"] = 5,
                ["ignoreBos"] = true,
                ["densityThreshold"] = threshold,
            }, cancellation);
            foreach (JsonNode? token in answer["results"]!.AsArray())
                features.UnionWith(token!["topFeatures"]!.AsArray().Select(f => (int)f!["featureIndex"]!));
        }

        await ActivationsAsync(features, text, cancellation);
    }

    private async Task ActivationsAsync(IEnumerable<int> features, JsonNode text, CancellationToken cancellation)
    {
        foreach (int[] some in features.Chunk(Together))
        {
            _features.UnionWith(some);
            string[] bodies = [.. some.Select(feature => new JsonObject
            {
                ["feature"] = new JsonObject { ["modelId"] = modelId, ["layer"] = source, ["index"] = Text(feature) },
                ["customText"] = text.DeepClone(),
            }.ToJsonString(AsPages))];
            string[] answers = await Task.WhenAll(bodies.Select(body => SendAsync(New, body, cancellation)));
            foreach ((string body, string answer) in bodies.Zip(answers))
                _answers[$"{New} {body}"] = JsonNode.Parse(answer);
        }
    }

    private async Task SteerAsync(JsonNode preset, int tokens, CancellationToken cancellation)
    {
        JsonNode edit = preset["features"]![0]!;
        int feature = int.Parse(edit["index"]!.ToString(), CultureInfo.InvariantCulture);
        _features.Add(feature);
        // A node, not an object: lists of anything else are not for ahead-of-time compilation.
        JsonNode one = new JsonObject
        {
            ["sae"] = source,
            ["feature"] = feature,
            ["mode"] = "steer",
            ["value"] = edit["strength"]!.DeepClone(),
            ["at"] = "all_but_bos",
        };
        JsonArray steered = [one];
        foreach (JsonArray edits in (JsonArray[])[[], steered])
        {
            var body = new JsonObject
            {
                ["model"] = modelId,
                ["prompt"] = (string)preset["prompt"]!,
                ["max_tokens"] = tokens,
                ["temperature"] = 0,
                ["stream"] = true,
                ["kernelscope"] = new JsonObject
                {
                    ["edits"] = edits,
                    ["features"] = new JsonObject { ["sae"] = source, ["top"] = 5 },
                },
            };
            string frames = await SendAsync("/v1/completions", body.ToJsonString(AsPages), cancellation);
            JsonArray recorded = [.. frames.Split("\n\n").Where(f => f.StartsWith("data: {", StringComparison.Ordinal))
                .Select(f => JsonNode.Parse(f["data: ".Length..]))];
            foreach (JsonNode? frame in recorded)
            {
                JsonNode? live = frame!["choices"]![0]!["kernelscope"]?["features"]?[0]?["features"];
                _features.UnionWith((live?.AsArray() ?? []).Select(f => (int)f!["index"]!));
            }

            _answers[$"/v1/completions {body.ToJsonString(AsPages)}"] = recorded;
        }
    }

    private async Task<JsonNode> PostAsync(string path, JsonNode body, CancellationToken cancellation)
    {
        string key = body.ToJsonString(AsPages);
        JsonNode answer = JsonNode.Parse(await SendAsync(path, key, cancellation))!;
        _answers[$"{path} {key}"] = answer;
        return answer;
    }

    private async Task<string> SendAsync(string path, string body, CancellationToken cancellation)
    {
        using var content = new StringContent(body, Encoding.UTF8, new MediaTypeHeaderValue("application/json"));
        using HttpResponseMessage response = await _client.PostAsync(new Uri(path, UriKind.Relative), content, cancellation);
        return await ReadAsync(path, response, cancellation);
    }

    private async Task<JsonNode> GetAsync(string path, CancellationToken cancellation)
    {
        using HttpResponseMessage response = await _client.GetAsync(new Uri(path, UriKind.Relative), cancellation);
        return JsonNode.Parse(await ReadAsync(path, response, cancellation))!;
    }

    private static async Task<string> ReadAsync(string path, HttpResponseMessage response, CancellationToken cancellation)
    {
        string text = await response.Content.ReadAsStringAsync(cancellation);
        return response.IsSuccessStatusCode ? text : throw new IOException($"{path} was answered with {(int)response.StatusCode}: {text}");
    }

    private JsonArray LabelsOf(IReadOnlyDictionary<int, string> meanings) =>
        [.. meanings.OrderBy(m => m.Key).Select(m => (JsonNode)new JsonObject
        {
            ["modelId"] = modelId,
            ["source"] = source,
            ["index"] = Text(m.Key),
            ["description"] = m.Value,
        })];

    private static void WritePages(string folder)
    {
        string api = Script("pages/api.js"), exercises = Script("pages/exercises.js");
        Write(folder, "demo.js", Classic(api, exercises, Script("pages/demo.js")));
        Write(folder, "feature.js", Classic(api, Script("pages/feature.js")));
        Write(folder, "recorded.js", Encoding.UTF8.GetString(Resources.Read("copy/recorded.js")));
        foreach (string page in (string[])[Home, "feature.html"])
        {
            string html = Encoding.UTF8.GetString(Resources.Read($"pages/{page}"));
            Write(folder, page, Links.Aggregate(html, (text, link) => text.Replace(link.From, link.To, StringComparison.Ordinal)));
        }

        foreach (string name in (string[])["app.css", "icon.svg"])
            Write(folder, name, Encoding.UTF8.GetString(Resources.Read($"pages/{name}")));
        foreach (string name in (string[])["openapi/v1.json", "openapi/api.json"])
            Write(folder, name, Encoding.UTF8.GetString(Resources.Read(name)));
    }

    /// <summary>A module's text without its imports and exports: browsers load no modules from a disk.</summary>
    private static string Script(string name) => string.Join('\n', Encoding.UTF8.GetString(Resources.Read(name)).Split('\n')
        .Where(l => !l.StartsWith("import ", StringComparison.Ordinal))
        .Select(l => l.StartsWith("export ", StringComparison.Ordinal) ? l["export ".Length..] : l));

    private static string Classic(params string[] modules) => $"(() => {{\n'use strict';\n{string.Concat(modules)}}})();\n";

    private static void WritePacked(string folder, string path, string call, JsonNode content)
    {
        byte[] packed = PackedFeature.Compress(Encoding.UTF8.GetBytes(content.ToJsonString(AsPages)));
        Write(folder, path, $"KernelScopeRecorded.{call}\"{Convert.ToBase64String(packed)}\");\n");
    }

    private static void Write(string folder, string path, string text)
    {
        string file = Path.Combine(folder, path);
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        File.WriteAllText(file, text);
    }

    private string FeaturePath(int feature) => $"/api/feature/{modelId}/{source}/{Text(feature)}";

    private static string Text(int feature) => feature.ToString(CultureInfo.InvariantCulture);
}
