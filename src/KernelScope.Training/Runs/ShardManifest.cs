using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>What a shard holds at one site.</summary>
internal sealed record SiteManifest
{
    public required StoredFile File { get; init; }

    public required long Rows { get; init; }

    /// <summary>Sum of the rows, in their order, in double [d].</summary>
    public required double[] SumX { get; init; }

    /// <summary>Σ ‖x‖².</summary>
    public required double SumSquaredNorm { get; init; }

    /// <summary>Σ ‖stored x − x‖² where rows are stored rounded; null in f32, and in what was written before this was measured.</summary>
    public double? SumSquaredRounding { get; init; }

    /// <summary>
    /// The share of the variance that rounding changed, Σ ‖stored x − x‖² / Σ ‖x − x̄‖²: the least FVU that an SAE of exact rows has on
    /// the stored ones. Null where it was not measured, or all rows are equal.
    /// </summary>
    public double? RoundingFvu
    {
        get
        {
            double variance = SumSquaredNorm - (SumX.Sum(s => s * s) / Rows);
            return SumSquaredRounding is { } error && variance > 0 ? error / variance : null;
        }
    }

    /// <summary>The largest ‖x‖.</summary>
    public required double MaxNorm { get; init; }

    /// <summary>The first row that has it: sequence and position; (−1, −1) without rows.</summary>
    public required (long Sequence, int Position) MaxNormAt { get; init; }
}

/// <summary>What a shard holds of one SAE.</summary>
/// <param name="File">The codes.</param>
/// <param name="Active">Pairs in all rows.</param>
/// <param name="Firing">The file of firing counts.</param>
internal sealed record CodesManifest(StoredFile File, long Active, StoredFile Firing);

/// <summary>
/// <c>shards/000123.json</c>: that a shard is done, and what it holds. Written last. What two workers may differ in (time, host) is in
/// it too, and no merged result depends on that.
/// </summary>
internal sealed record ShardManifest
{
    private const int MaxLength = 1 << 30;

    public required string Run { get; init; }

    public required int Shard { get; init; }

    public required int Attempt { get; init; }

    public required IReadOnlyDictionary<string, SiteManifest> Sites { get; init; }

    public required IReadOnlyDictionary<string, CodesManifest> Codes { get; init; }

    public required StoredFile Tokens { get; init; }

    /// <summary>What an evaluation measured; null in a run of rows.</summary>
    public StoredFile? Scores { get; init; }

    /// <summary>Positions without rows, by token id; positions left out at the beginning of a sequence count here too.</summary>
    public required IReadOnlyDictionary<int, long> Excluded { get; init; }

    public required long Rows { get; init; }

    public required double Seconds { get; init; }

    public required string Worker { get; init; }

    public required string Host { get; init; }

    public required string Device { get; init; }

    public required string DeviceClass { get; init; }

    public required string Code { get; init; }

    /// <summary>Of a shard that this process has made, without what is in it: no sites, no codes, nothing left out.</summary>
    /// <param name="plan">The run.</param>
    /// <param name="shard">Which.</param>
    /// <param name="attempt">The number of the attempt, from 1.</param>
    /// <param name="tokensPath">Its tokens.</param>
    /// <param name="device">What it was made on.</param>
    /// <param name="start">When it was begun, by <see cref="Stopwatch.GetTimestamp"/>.</param>
    public static ShardManifest Create(RunPlan plan, int shard, int attempt, string tokensPath, Device device, long start) => new()
    {
        Run = plan.Id,
        Shard = shard,
        Attempt = attempt,
        Sites = new Dictionary<string, SiteManifest>(),
        Codes = new Dictionary<string, CodesManifest>(),
        Tokens = new StoredFile(new FileInfo(tokensPath).Length, plan.Shards[shard].TokensSha256),
        Excluded = new Dictionary<int, long>(),
        Rows = plan.Shards[shard].Rows,
        Seconds = Math.Round(Stopwatch.GetElapsedTime(start).TotalSeconds, 3),
        Worker = WorkerName.Own,
        Host = WorkerName.Host,
        Device = device.Name,
        DeviceClass = plan.DeviceClass,
        Code = $"{plan.CodeVersion}+{plan.CodeCommit}",
    };

    /// <summary>The bytes of the manifest.</summary>
    public byte[] ToBytes()
    {
        var sites = new JsonObject();
        foreach ((string name, SiteManifest site) in Sites)
        {
            JsonObject value = OfFile(RunFolder.Acts(name, Shard), site.File);
            value["rows"] = site.Rows;
            value["sum_x"] = CanonicalJson.Numbers(site.SumX);
            value["sum_squared_norm"] = site.SumSquaredNorm;
            if (site.SumSquaredRounding is { } rounding)
                value["sum_squared_rounding"] = rounding;
            value["max_norm"] = site.MaxNorm;
            value["max_norm_at"] = new JsonObject { ["sequence"] = site.MaxNormAt.Sequence, ["position"] = site.MaxNormAt.Position };
            sites[name] = value;
        }

        var codes = new JsonObject();
        foreach ((string id, CodesManifest sae) in Codes)
        {
            JsonObject value = OfFile(RunFolder.Codes(id, Shard), sae.File);
            value["active"] = sae.Active;
            value["firing"] = OfFile(RunFolder.Firing(id, Shard), sae.Firing);
            codes[id] = value;
        }

        var excluded = new JsonObject();
        foreach ((int id, long count) in Excluded)
            excluded[id.ToString(CultureInfo.InvariantCulture)] = count;
        var manifest = new JsonObject
        {
            ["run"] = Run,
            ["shard"] = Shard,
            ["attempt"] = Attempt,
            ["sites"] = sites,
            ["codes"] = codes,
            ["tokens"] = OfFile(RunFolder.Tokens(Shard), Tokens),
            ["excluded"] = excluded,
            ["rows"] = Rows,
            ["seconds"] = Seconds,
            ["worker"] = Worker,
            ["host"] = Host,
            ["device"] = Device,
            ["device_class"] = DeviceClass,
            ["code"] = Code,
        };
        if (Scores is StoredFile scores)
            manifest["scores"] = OfFile(RunFolder.Scores(Shard), scores);
        return CanonicalJson.Write(manifest);
    }

    /// <summary>
    /// Writes the manifest, which is the commit of its shard. Two workers may finish at once: then the first one's stays, and holds the same.
    /// </summary>
    public ShardOutcome Commit(RunFolder folder, RunPlan plan)
    {
        try
        {
            PlacedFile.Write(folder.At(RunFolder.Manifest(Shard)), ToBytes());
            return new ShardOutcome(this, false);
        }
        catch (ShardConflictException) when (Read(folder, plan, Shard) is ShardManifest first && first.Files.SequenceEqual(Files))
        {
            return new ShardOutcome(first, true);
        }
    }

    /// <summary>The manifest of a shard that is there: one of this run, with files of the lengths that it names.</summary>
    /// <exception cref="InvalidDataException">The manifest is malformed.</exception>
    public static ShardManifest? Find(RunFolder folder, RunPlan plan, int shard) =>
        Read(folder, plan, shard) is { } manifest && manifest.MissingFile(folder) is null ? manifest : null;

    /// <summary>A file that the manifest names, by path in the run, that is missing or has another length; null if there is none.</summary>
    public string? MissingFile(RunFolder folder) =>
        Files.Where(f => LengthOf(folder.At(f.Path)) != f.File.Bytes).Select(f => f.Path).FirstOrDefault();

    /// <summary>Reads and checks the manifest of a shard against the plan, without its files; null if there is none.</summary>
    /// <exception cref="InvalidDataException">It is malformed, or belongs to another run.</exception>
    public static ShardManifest? Read(RunFolder folder, RunPlan plan, int shard)
    {
        string path = folder.At(RunFolder.Manifest(shard));
        if (!RawFile.IsThere(path))
            return null;
        using JsonDocument document = JsonText.ParseObject(RawFile.ReadAll(path, MaxLength), path);
        var root = new RunField(document.RootElement, path, "");
        if (root["run"].Text != plan.Id)
            throw BadFile.At(path, $"the shard belongs to the run {BadFile.Printable(root["run"].Text, 64)}, and the folder's run is " +
                $"{plan.Id}.");
        if (root["shard"].Long(0, int.MaxValue) != shard)
            throw BadFile.At(path, $"it says that it is of shard {root["shard"].Long(0, int.MaxValue)}.");
        long rows = root["rows"].Long(0, long.MaxValue);
        if (rows != plan.Shards[shard].Rows)
            throw BadFile.At(path, $"the shard has {rows} rows; the plan has {plan.Shards[shard].Rows}.");
        return new ShardManifest
        {
            Run = plan.Id,
            Shard = shard,
            Attempt = root["attempt"].Int(1, int.MaxValue),
            Sites = plan.Sites.ToDictionary(s => s.Name, s => SiteOf(root["sites"][s.Name], s, shard, rows)),
            Codes = plan.Saes.ToDictionary(s => s.Id, s => CodesOf(root["codes"][s.Id], s, shard)),
            Tokens = FileOf(root["tokens"], RunFolder.Tokens(shard)),
            Scores = plan.Evaluation is null ? null : FileOf(root["scores"], RunFolder.Scores(shard)),
            Excluded = root["excluded"].Members.ToDictionary(m => int.TryParse(m.Name, NumberStyles.None, CultureInfo.InvariantCulture,
                out int id) ? id : throw m.Value.Bad("a count under a token id"), m => m.Value.Long(0, long.MaxValue)),
            Rows = rows,
            Seconds = root["seconds"].Double,
            Worker = root["worker"].Text,
            Host = root["host"].Text,
            Device = root["device"].Text,
            DeviceClass = root["device_class"].Text,
            Code = root["code"].Text,
        };
    }

    /// <summary>The files of a shard, by path in the run.</summary>
    public IEnumerable<(string Path, StoredFile File)> Files
    {
        get
        {
            if (Scores is StoredFile scores)
                yield return (RunFolder.Scores(Shard), scores);
            else
                yield return (RunFolder.Tokens(Shard), Tokens);
            foreach ((string name, SiteManifest site) in Sites)
                yield return (RunFolder.Acts(name, Shard), site.File);
            foreach ((string id, CodesManifest sae) in Codes)
            {
                yield return (RunFolder.Codes(id, Shard), sae.File);
                yield return (RunFolder.Firing(id, Shard), sae.Firing);
            }
        }
    }

    private static long LengthOf(string path) => new FileInfo(path) is { Exists: true } file ? file.Length : -1;

    private static SiteManifest SiteOf(RunField field, SiteRecord site, int shard, long rows)
    {
        double[] sum = [.. field["sum_x"].Items.Select(v => v.Double)];
        if (sum.Length != site.Width)
            throw field["sum_x"].Bad($"{site.Width} numbers");
        return field["rows"].Long(0, long.MaxValue) != rows ? throw field["rows"].Bad($"{rows}, as the shard has") : new SiteManifest
        {
            File = FileOf(field, RunFolder.Acts(site.Name, shard)),
            Rows = rows,
            SumX = sum,
            SumSquaredNorm = field["sum_squared_norm"].Double is >= 0 and double squares ? squares
                : throw field["sum_squared_norm"].Bad("a number of at least 0"),
            SumSquaredRounding = field.Has("sum_squared_rounding") ? field["sum_squared_rounding"].Double : null,
            MaxNorm = field["max_norm"].Double,
            MaxNormAt = (field["max_norm_at"]["sequence"].Long(-1, long.MaxValue), field["max_norm_at"]["position"].Int(-1, int.MaxValue)),
        };
    }

    private static CodesManifest CodesOf(RunField field, SaeRecord sae, int shard) =>
        new(FileOf(field, RunFolder.Codes(sae.Id, shard)), field["active"].Long(0, long.MaxValue),
            FileOf(field["firing"], RunFolder.Firing(sae.Id, shard)));

    private static StoredFile FileOf(RunField field, string expected) => field["file"].Text == expected
        ? new StoredFile(field["bytes"].Long(1, long.MaxValue), field["sha256"].Sha256) : throw field["file"].Bad($"'{expected}'");

    private static JsonObject OfFile(string path, StoredFile file) =>
        new() { ["file"] = path, ["bytes"] = file.Bytes, ["sha256"] = file.Sha256 };
}
