using System.Text.Json;
using System.Text.Json.Nodes;
using KernelScope.Files;
using KernelScope.Hooks;

namespace KernelScope.Training.Runs;

/// <summary>A file by name, length and hash.</summary>
internal sealed record FileIdentity(string Path, long Bytes, string Sha256);

/// <summary>A model by what it computes: its settings and its weight files.</summary>
/// <param name="Name">How workers find it unless they are told: a hub name, or a folder's name.</param>
/// <param name="ConfigSha256">Hash of the settings on which activations depend.</param>
/// <param name="Files">The weight files, by name without folder.</param>
internal sealed record ModelRecord(string Name, string ConfigSha256, IReadOnlyList<FileIdentity> Files);

/// <summary>A site of a run and its width.</summary>
internal sealed record SiteRecord(HookPoint Point, int Width)
{
    /// <summary>The name, which is also that of the site's folder.</summary>
    public string Name { get; } = Point.ToString();
}

/// <summary>An SAE whose codes a run holds.</summary>
/// <param name="Id">The name of its folder.</param>
/// <param name="Name">How workers find it unless they are told: a name of the demo or of the catalogue, or what its path ends with.</param>
/// <param name="Sha256">Hash of what it computes with.</param>
/// <param name="Site">Where it reads.</param>
/// <param name="Features">d_sae.</param>
internal sealed record SaeRecord(string Id, string Name, string Sha256, HookPoint Site, int Features);

/// <summary>An SAE that an evaluation measures.</summary>
/// <param name="Sae">What it is, and where it reads.</param>
/// <param name="SiteOut">Where its output belongs.</param>
/// <param name="InputDim">d_in.</param>
/// <param name="OutputDim">d_out.</param>
internal sealed record EvaluationSae(SaeRecord Sae, HookPoint SiteOut, int InputDim, int OutputDim);

/// <summary>What makes a run an evaluation: its shards hold what SAEs do inside the model on another run's sequences.</summary>
/// <param name="Run">The id of that run, in whose folder it lies.</param>
/// <param name="Saes">The SAEs, which share the passes without them.</param>
/// <param name="Gradients">Whether r_L0 is measured.</param>
/// <param name="Layers">The model's.</param>
internal sealed record EvaluationRecord(string Run, IReadOnlyList<EvaluationSae> Saes, bool Gradients, int Layers);

/// <summary>A shard: contiguous sequences.</summary>
/// <param name="FirstSequence">Number of the first, over the run.</param>
/// <param name="Sequences">Their number.</param>
/// <param name="Rows">Rows that count.</param>
/// <param name="TokensSha256">Hash of the file with its tokens.</param>
internal sealed record ShardRecord(long FirstSequence, int Sequences, long Rows, string TokensSha256);

/// <summary>
/// <c>run.json</c>: everything on which the bytes of a run's shards depend. The run's id is the hash of its bytes, so a changed input
/// is another run; nothing in it depends on the machine, the folder or the time.
/// </summary>
internal sealed record RunPlan
{
    /// <summary>The only format there is.</summary>
    public const int Format = 1;

    /// <summary>Where BOS is, in every run of this format.</summary>
    public const string BosPolicy = "first of each sequence";

    private const int MaxLength = 1 << 30, MostShards = 100_000_000;

    private Hashed? _hashed;

    public required ModelRecord Model { get; init; }

    /// <summary>What kind of input the tokens came from.</summary>
    public required string TokensSource { get; init; }

    /// <summary>Hash of all tokens: of the hashes of the token files, in order.</summary>
    public required string TokensSha256 { get; init; }

    public required long TokenCount { get; init; }

    /// <summary>Null where token ids were given.</summary>
    public required string? TokenizerSha256 { get; init; }

    public required IReadOnlyList<SiteRecord> Sites { get; init; }

    public required IReadOnlyList<SaeRecord> Saes { get; init; }

    /// <summary>Most tokens of a sequence.</summary>
    public required int Context { get; init; }

    /// <summary>What is behind the end of a shorter sequence in a token file.</summary>
    public required int PadId { get; init; }

    /// <summary>Ids without rows, ascending.</summary>
    public required IReadOnlyList<int> ExcludedIds { get; init; }

    /// <summary>Positions at the beginning of each sequence without rows.</summary>
    public required int SkipFirst { get; init; }

    /// <summary>F32, BF16 or F16.</summary>
    public required DType RowType { get; init; }

    /// <summary>exact or fast.</summary>
    public required string Precision { get; init; }

    /// <summary>Devices of one class give equal bits.</summary>
    public required string DeviceClass { get; init; }

    public required string CodeVersion { get; init; }

    public required string CodeCommit { get; init; }

    public required long Seed { get; init; }

    public required IReadOnlyList<ShardRecord> Shards { get; init; }

    /// <summary>Null unless the run is an evaluation; then it has neither sites nor codes.</summary>
    public EvaluationRecord? Evaluation { get; init; }

    /// <summary>Rows of all shards.</summary>
    public long Rows => Shards.Sum(s => s.Rows);

    /// <summary>Sequences of all shards.</summary>
    public long Sequences => Shards.Sum(s => (long)s.Sequences);

    /// <summary>Bytes that a row takes at all sites, without codes.</summary>
    public long RowBytes => Sites.Sum(s => ((long)s.Width * RowType.ByteSize()) + (3 * sizeof(int)));

    /// <summary>The bytes of run.json.</summary>
    public byte[] ToBytes() => CanonicalJson.Write(ToJson());

    /// <summary>The run's id.</summary>
    public string Id
    {
        get
        {
            // A copy made by 'with' has the field of its original, and must not have its id.
            if (_hashed?.Owner != (object)this)
                _hashed = new Hashed(this, CanonicalJson.Hash(ToBytes()));
            return _hashed.Id;
        }
    }

    /// <summary>Reads and checks a run.json.</summary>
    /// <exception cref="InvalidDataException">It is missing, malformed, or of another format.</exception>
    public static RunPlan Read(RunFolder folder)
    {
        string path = folder.PlanPath;
        if (!RawFile.IsThere(path))
            throw BadFile.At(folder.Path, "there is no run.json in it: this is not a run, or its plan was not finished.");
        byte[] bytes = RawFile.ReadAll(path, MaxLength);
        using JsonDocument document = JsonText.ParseObject(bytes, path);
        RunPlan plan = Parse(new RunField(document.RootElement, path, ""), path);
        // The id is a hash of these very bytes: another spelling of the same content would be another run to everyone else.
        return plan.ToBytes().AsSpan().SequenceEqual(bytes) ? plan
            : throw BadFile.At(path, "its bytes are not those that this content is written in (names sorted, no spaces); it was edited, " +
                "or written by another version.");
    }

    private static RunPlan Parse(RunField root, string path)
    {
        int format = root["format"].Int(0, int.MaxValue);
        if (format != Format)
            throw BadFile.At(path, $"the run has format {format}; this version reads format {Format}.");
        if (root["bos"].Text != BosPolicy)
            throw root["bos"].Bad($"'{BosPolicy}'");
        ModelRecord model = new(
            root["model"]["name"].Text,
            root["model"]["config_sha256"].Sha256,
            [.. root["model"]["files"].Items.Select(f => new FileIdentity(f["path"].Text, f["bytes"].Long(0, long.MaxValue),
                f["sha256"].Sha256))]);
        SiteRecord[] sites = [.. root["sites"].Items.Zip(root["widths"].Items, Site)];
        if (sites.Length != root["sites"].Count || sites.Length != root["widths"].Count
            || sites.DistinctBy(s => s.Point).Count() != sites.Length)
            throw BadFile.At(path, "sites and widths are not lists of one length with each site once.");
        SaeRecord[] saes = [.. root["saes"].Items.Select(Sae)];
        if (saes.DistinctBy(s => s.Id).Count() != saes.Length)
            throw BadFile.At(path, "two SAEs have one id.");
        return new RunPlan
        {
            Model = model,
            TokensSource = root["tokens"]["source"].Text,
            TokensSha256 = root["tokens"]["sha256"].Sha256,
            TokenCount = root["tokens"]["count"].Long(1, long.MaxValue),
            TokenizerSha256 = root["tokenizer_sha256"].TextOrNull is null ? null : root["tokenizer_sha256"].Sha256,
            Sites = sites,
            Saes = saes,
            Context = root["context"].Int(1, 1 << 24),
            PadId = root["pad_id"].Int(int.MinValue, int.MaxValue),
            ExcludedIds = [.. root["excluded_ids"].Items.Select(i => i.Int(0, int.MaxValue))],
            SkipFirst = root["skip_first"].Int(0, 1 << 24),
            RowType = TypeOf(root["dtype"]),
            Precision = root["precision"].Text,
            DeviceClass = root["device_class"].Text,
            CodeVersion = root["code"]["version"].Text,
            CodeCommit = root["code"]["commit"].Text,
            Seed = root["seed"].Long(long.MinValue, long.MaxValue),
            Shards = ShardsOf(root, path),
            Evaluation = root.Has("evaluation") ? EvaluationOf(root["evaluation"]) : null,
        };
    }

    private static EvaluationRecord EvaluationOf(RunField field) => new(
        field["run"].Sha256,
        [.. field["saes"].Items.Select(s => new EvaluationSae(Sae(s), HookPoint.TryParse(s["site_out"].Text, out HookPoint siteOut)
            ? siteOut : throw s["site_out"].Bad("a hook point"), s["d_in"].Int(1, 1 << 24), s["d_out"].Int(1, 1 << 24)))],
        field["gradients"].Bool,
        field["layers"].Int(1, 1 << 16));

    private static SiteRecord Site(RunField name, RunField width) =>
        HookPoint.TryParse(name.Text, out HookPoint point) && point.ToString() == name.Text && !HookPoint.IsOverKeys(point.Site)
            ? new SiteRecord(point, width.Int(1, 1 << 24)) : throw name.Bad("a hook point with rows of a fixed width");

    private static SaeRecord Sae(RunField sae)
    {
        string id = sae["id"].Text;
        if (!RunFolder.IsId(id))
            throw sae["id"].Bad("a name that a folder can have");
        return HookPoint.TryParse(sae["site"].Text, out HookPoint site)
            ? new SaeRecord(id, sae["name"].Text, sae["sha256"].Sha256, site, sae["features"].Int(1, int.MaxValue))
                : throw sae["site"].Bad("a hook point");
    }

    private static DType TypeOf(RunField field) => field.Text switch
    {
        "f32" => DType.F32,
        "bf16" => DType.BF16,
        "f16" => DType.F16,
        _ => throw field.Bad("f32, bf16 or f16"),
    };

    private static ShardRecord[] ShardsOf(RunField root, string path)
    {
        RunField table = root["shard_table"];
        if (table.Count is 0 or > MostShards)
            throw BadFile.At(path, $"shard_table has {table.Count} shards; expected 1 to {MostShards}.");
        ShardRecord[] shards = [.. table.Items.Select(s => new ShardRecord(
            s["first_sequence"].Long(0, int.MaxValue), s["sequences"].Int(1, int.MaxValue), s["rows"].Long(0, long.MaxValue),
                s["tokens_sha256"].Sha256))];
        long first = 0, context = root["context"].Int(1, 1 << 24);
        for (int n = 0; n < shards.Length; n++)
        {
            if (shards[n].FirstSequence != first || shards[n].Rows > shards[n].Sequences * context)
                throw BadFile.At(path, $"shard_table[{n}] begins with sequence {shards[n].FirstSequence} and has {shards[n].Rows} rows; " +
                    $"sequence {first} and at most {shards[n].Sequences * context} rows were expected.");
            first += shards[n].Sequences;
        }

        return shards;
    }

    private JsonObject ToJson()
    {
        JsonObject json = ToRowsJson();
        if (Evaluation is EvaluationRecord evaluation)
        {
            json["evaluation"] = new JsonObject
            {
                ["run"] = evaluation.Run,
                ["saes"] = new JsonArray([.. evaluation.Saes.Select(s => new JsonObject { ["id"] = s.Sae.Id, ["name"] = s.Sae.Name,
                    ["sha256"] = s.Sae.Sha256, ["site"] = s.Sae.Site.ToString(), ["site_out"] = s.SiteOut.ToString(),
                    ["features"] = s.Sae.Features, ["d_in"] = s.InputDim, ["d_out"] = s.OutputDim })]),
                ["gradients"] = evaluation.Gradients,
                ["layers"] = evaluation.Layers,
            };
        }

        return json;
    }

    private JsonObject ToRowsJson() => new()
    {
        ["format"] = Format,
        ["model"] = new JsonObject
        {
            ["name"] = Model.Name,
            ["config_sha256"] = Model.ConfigSha256,
            ["files"] = new JsonArray([.. Model.Files.Select(f => new JsonObject { ["path"] = f.Path, ["bytes"] = f.Bytes,
                ["sha256"] = f.Sha256 })]),
        },
        ["tokens"] = new JsonObject { ["source"] = TokensSource, ["sha256"] = TokensSha256, ["count"] = TokenCount },
        ["tokenizer_sha256"] = TokenizerSha256,
        ["sites"] = CanonicalJson.Texts(Sites.Select(s => s.Name)),
        ["widths"] = new JsonArray([.. Sites.Select(s => (JsonNode)s.Width)]),
        ["saes"] = new JsonArray([.. Saes.Select(s => new JsonObject { ["id"] = s.Id, ["name"] = s.Name, ["sha256"] = s.Sha256,
            ["site"] = s.Site.ToString(), ["features"] = s.Features })]),
        ["context"] = Context,
        ["pad_id"] = PadId,
        ["bos"] = BosPolicy,
        ["excluded_ids"] = new JsonArray([.. ExcludedIds.Select(i => (JsonNode)i)]),
        ["skip_first"] = SkipFirst,
        ["dtype"] = NameOf(RowType),
        ["precision"] = Precision,
        ["device_class"] = DeviceClass,
        ["code"] = new JsonObject { ["version"] = CodeVersion, ["commit"] = CodeCommit },
        ["seed"] = Seed,
        ["rows_estimate"] = Rows,
        ["shard_table"] = new JsonArray([.. Shards.Select(s => new JsonObject
        {
            ["first_sequence"] = s.FirstSequence,
            ["sequences"] = s.Sequences,
            ["rows"] = s.Rows,
            ["tokens_sha256"] = s.TokensSha256,
        })]),
    };

    private sealed class Hashed(RunPlan owner, string id)
    {
        public object Owner => owner;

        public string Id => id;
    }

    /// <summary>The name of a type in run.json and on the command line.</summary>
    public static string NameOf(DType type) => type.SafetensorsName().ToLowerInvariant();
}
