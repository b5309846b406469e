using System.Text.RegularExpressions;

namespace KernelScope.Files;

/// <summary>
/// The layout of the model hub's cache: <c>models--org--name/refs/main</c> holds a revision, <c>snapshots/REVISION/</c> the files (links into <c>blobs/</c>).
/// </summary>
internal static partial class HubCache
{
    /// <summary>The caches to search, most specific first: HF_HUB_CACHE, HF_HOME/hub, ~/.cache/huggingface/hub.</summary>
    public static List<string> Roots(Func<string, string?> environment)
    {
        var roots = new List<string>();
        if (environment("HF_HUB_CACHE") is { Length: > 0 } cache) roots.Add(cache);
        if (environment("HF_HOME") is { Length: > 0 } home) roots.Add(Path.Combine(home, "hub"));
        string user = environment("HOME") is { Length: > 0 } folder ? folder : Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        if (user.Length > 0) roots.Add(Path.Combine(user, ".cache", "huggingface", "hub"));
        return [.. roots.Distinct(StringComparer.Ordinal)];
    }

    /// <summary>The folder name of a hub id, google/gemma-2-2b to models--google--gemma-2-2b; null if the text is no hub id.</summary>
    public static string? EntryName(string text) => HubId().IsMatch(text) && !text.Contains("..", StringComparison.Ordinal) ? "models--" + text.Replace("/", "--", StringComparison.Ordinal) : null;

    /// <summary>Whether a folder is a cache entry rather than a model folder.</summary>
    public static bool IsEntry(string folder) => Directory.Exists(Path.Combine(folder, "snapshots"));

    /// <summary>The snapshot of a cache entry: the one that refs/main names, else the only one there is.</summary>
    /// <exception cref="InvalidDataException">There is none, or no way to choose.</exception>
    public static string Snapshot(string entry)
    {
        string main = Path.Combine(entry, "refs", "main");
        if (RawFile.IsThere(main))
        {
            string revision = System.Text.Encoding.UTF8.GetString(RawFile.ReadAll(main, 1024)).Trim();
            if (!Revision().IsMatch(revision)) throw BadFile.Of(main, $"this names the revision {BadFile.Quote(revision)}, which is not one.");
            string folder = Path.Combine(entry, "snapshots", revision);
            return Directory.Exists(folder) ? folder : throw BadFile.Of(entry, $"refs/main names the revision {revision}, but there is no snapshots/{revision}: the download is incomplete.");
        }
        string[] snapshots = Directory.GetDirectories(Path.Combine(entry, "snapshots"));
        return snapshots.Length == 1 ? snapshots[0] : throw BadFile.Of(entry, $"there is no refs/main, and {snapshots.Length} snapshots to choose from; name one of the folders in snapshots/.");
    }

    [GeneratedRegex(@"\A[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}\z")]
    private static partial Regex HubId();

    [GeneratedRegex(@"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\z")]
    private static partial Regex Revision();
}
