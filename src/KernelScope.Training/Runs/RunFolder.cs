using System.Globalization;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>
/// Where the files of a run are. No name comes from a file: all are made of shard numbers, hook points and ids that were checked.
/// </summary>
/// <param name="path">The run's folder.</param>
internal sealed class RunFolder(string path)
{
    /// <summary>Longest id of an SAE, which names a folder.</summary>
    public const int LongestId = 128;

    private static readonly string[] Own = ["run.json", "tokens", "acts", "codes", "shards", "scores", "failed", "conflicts", "evals"];

    private const string Ending = ".safetensors", JsonEnding = ".json";

    /// <summary>The folder.</summary>
    public string Path { get; } = path;

    /// <summary>The plan.</summary>
    public string PlanPath => At("run.json");

    /// <summary>Folder of the manifests.</summary>
    public string ShardsFolder => At("shards");

    /// <summary>Folder of what went wrong.</summary>
    public string FailedFolder => At("failed");

    /// <summary>Folder of shards that two workers made differently.</summary>
    public string ConflictsFolder => At("conflicts");

    /// <summary>Folder of merged results.</summary>
    public string MergedFolder => At("merged");

    /// <summary>Folder of the evaluations over this run.</summary>
    public string EvaluationsFolder => At("evals");

    /// <summary>Whether writing to a path would write over the plan, or to where only shards and what is said of them are, by whichever
    /// links it leads there.</summary>
    /// <exception cref="IOException">Links lead in a circle.</exception>
    public bool Holds(string file)
    {
        for (string? at = FilePlace.TargetOf(file); at is not null; at = System.IO.Path.GetDirectoryName(at))
        {
            if (Own.Any(own => IsSame(at, System.IO.Path.GetFullPath(At(own)))))
                return true;
        }

        return false;
    }

    private static bool IsSame(string a, string b) => a == b || (FileStatus.Of(a) is FileStatus x && FileStatus.Of(b) is FileStatus y
        && (x.Inode, x.Device) == (y.Inode, y.Device));

    /// <summary>A file by its path in the run, parts separated by slashes.</summary>
    public string At(string relative) => System.IO.Path.Combine([Path, .. relative.Split('/')]);

    /// <summary>Tokens of a shard, as a path in the run.</summary>
    public static string Tokens(int shard) => $"tokens/{Number(shard)}{Ending}";

    /// <summary>Rows of a site of a shard.</summary>
    public static string Acts(string site, int shard) => $"acts/{site}/{Number(shard)}{Ending}";

    /// <summary>Codes of an SAE of a shard.</summary>
    public static string Codes(string id, int shard) => $"codes/{id}/{Number(shard)}{Ending}";

    /// <summary>How often each feature fires in a shard.</summary>
    public static string Firing(string id, int shard) => $"codes/{id}/{Number(shard)}.firing{Ending}";

    /// <summary>What was measured of the SAEs of an evaluation on a shard's sequences.</summary>
    public static string Scores(int shard) => $"scores/{Number(shard)}{Ending}";

    /// <summary>An evaluation over this run: a run of its own.</summary>
    public RunFolder Evaluation(string id) => new(System.IO.Path.Combine(EvaluationsFolder, id[..12]));

    /// <summary>The manifest of a shard.</summary>
    public static string Manifest(int shard) => $"shards/{Number(shard)}{JsonEnding}";

    /// <summary>Why an attempt at a shard failed.</summary>
    public static string Failed(int shard, int attempt) => string.Create(CultureInfo.InvariantCulture,
        $"failed/{Number(shard)}.{attempt}{JsonEnding}");

    /// <summary>A record of two different results of one shard.</summary>
    public static string Conflict(int shard) => $"conflicts/{Number(shard)}.{Guid.NewGuid():N}{JsonEnding}";

    /// <summary>The number of a shard as files have it: six digits, or more where they are needed.</summary>
    public static string Number(int shard) => shard.ToString("D6", CultureInfo.InvariantCulture);

    /// <summary>Whether a text can be the id of an SAE: it names a folder on any system.</summary>
    public static bool IsId(string id) => id.Length <= LongestId && HubName.IsSafe(id) && !id.Contains('/', StringComparison.Ordinal);

    /// <summary>Shards that have a manifest.</summary>
    /// <exception cref="IOException">The folder cannot be listed.</exception>
    public SortedSet<int> ShardsWithManifest() => [.. NumbersIn(ShardsFolder).Where(n => n.Suffix.Length == 0).Select(n => n.Shard)];

    /// <summary>Failed attempts of each shard.</summary>
    public SortedDictionary<int, int> FailedAttempts()
    {
        var attempts = new SortedDictionary<int, int>();
        foreach ((int shard, string rest) in NumbersIn(FailedFolder))
        {
            if (int.TryParse(rest, NumberStyles.None, CultureInfo.InvariantCulture, out int attempt))
                attempts[shard] = Math.Max(attempt, attempts.GetValueOrDefault(shard));
        }

        return attempts;
    }

    /// <summary>Records of conflicts.</summary>
    public int ConflictCount() => NumbersIn(ConflictsFolder).Count();

    private static IEnumerable<(int Shard, string Suffix)> NumbersIn(string folder)
    {
        if (!Directory.Exists(folder))
            yield break;
        foreach (string file in Directory.EnumerateFileSystemEntries(folder, "*" + JsonEnding))
        {
            string name = System.IO.Path.GetFileNameWithoutExtension(file);
            int dot = name.IndexOf('.', StringComparison.Ordinal);
            string number = dot < 0 ? name : name[..dot], rest = dot < 0 ? "" : name[(dot + 1)..];
            if (number.Length >= 6 && int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out int shard)
                && Number(shard) == number)
                yield return (shard, rest);
        }
    }
}
