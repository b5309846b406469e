using System.Text.RegularExpressions;

namespace KernelScope.Files;

/// <summary>
/// The layout of the model hub's cache: <c>models--org--name/refs/main</c> holds a revision, <c>snapshots/REVISION/</c> the files (links into <c>blobs/</c>).
/// </summary>
/// <remarks>Any number of threads may call it.</remarks>
public static partial class HubCache
{
    /// <summary>
    /// The caches to search, most specific first: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub. The hub's own library uses the first
    /// alone, and so does a download.
    /// </summary>
    /// <param name="environment">A variable's name to its value, null if it is not set; HOME is where ~ is.</param>
    public static IReadOnlyList<string> Roots(Func<string, string?> environment)
    {
        ArgumentNullException.ThrowIfNull(environment);
        var roots = new List<string>();
        if (environment("HF_HUB_CACHE") is { Length: > 0 } cache)
            roots.Add(Expand(cache, environment));
        if (environment("HUGGINGFACE_HUB_CACHE") is { Length: > 0 } legacy)
            roots.Add(Expand(legacy, environment));
        roots.AddRange(Homes(environment).Select(home => Path.Combine(home, "hub")));
        return [.. roots.Distinct(StringComparer.Ordinal)];
    }

    /// <summary>Finds a file of a repository: in the snapshot that refs/main names, else in the only other snapshot that has it.</summary>
    /// <param name="repository">A hub id, <c>google/gemma-scope-2b-pt-res</c>.</param>
    /// <param name="file">Its path there, <c>layer_20/width_16k/average_l0_71/params.npz</c>.</param>
    /// <param name="environment">As for <see cref="Roots"/>.</param>
    /// <returns>The path; null if no cache has it.</returns>
    /// <exception cref="InvalidDataException">Several snapshots have it, and refs/main names none of them.</exception>
    public static string? FindFile(string repository, string file, Func<string, string?> environment)
    {
        string name = EntryName(repository) ?? throw new ArgumentException($"'{repository}' is not a hub id.", nameof(repository));
        if (!HubName.IsSafe(file))
            throw new ArgumentException($"'{file}' is not a path inside a repository.", nameof(file));
        return Roots(environment).Select(root => FindIn(Path.Combine(root, name), file)).FirstOrDefault(path => path is not null);
    }

    private static string? FindIn(string entry, string file)
    {
        if (!IsEntry(entry))
            return null;
        if (MainRevision(entry) is string main && Path.Combine(entry, "snapshots", main, file) is string path && RawFile.IsThere(path))
            return path;
        string[] found = [.. Directory.GetDirectories(Path.Combine(entry, "snapshots")).Select(snapshot => Path.Combine(snapshot, file))
            .Where(RawFile.IsThere).Order(StringComparer.Ordinal)];
        // Two revisions may well share a blob: then it does not matter which is meant.
        IEnumerable<string> targets = found.Select(f => new FileInfo(f).ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? f);
        return targets.Distinct(StringComparer.Ordinal).Count() > 1
            ? throw BadFile.At(entry, $"{found.Length} snapshots hold a {file}, and refs/main names none of them; name the file that " +
                "is meant.")
            : found.FirstOrDefault();
    }

    /// <summary>The folders that hold "hub" and "token": HF_HOME, XDG_CACHE_HOME/huggingface, ~/.cache/huggingface.</summary>
    internal static IEnumerable<string> Homes(Func<string, string?> environment)
    {
        if (environment("HF_HOME") is { Length: > 0 } home)
            yield return Expand(home, environment);
        if (environment("XDG_CACHE_HOME") is { Length: > 0 } cache)
            yield return Path.Combine(Expand(cache, environment), "huggingface");
        if (UserFolder(environment) is { Length: > 0 } user)
            yield return Path.Combine(user, ".cache", "huggingface");
    }

    /// <summary>A path from a variable, with ~ at its beginning replaced.</summary>
    internal static string Expand(string path, Func<string, string?> environment) =>
        path == "~" || path.StartsWith("~/", StringComparison.Ordinal) ? Path.Join(UserFolder(environment), path[1..]) : path;

    private static string UserFolder(Func<string, string?> environment) =>
        environment("HOME") is { Length: > 0 } folder ? folder : Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);

    /// <summary>The folder name of a hub id, google/gemma-2-2b to models--google--gemma-2-2b; null if the text is not a hub id.</summary>
    internal static string? EntryName(string text) => HubId().IsMatch(text) && !text.Contains("..", StringComparison.Ordinal)
        ? "models--" + text.Replace("/", "--", StringComparison.Ordinal) : null;

    /// <summary>Whether a folder is a cache entry rather than a model folder.</summary>
    internal static bool IsEntry(string folder) => Directory.Exists(Path.Combine(folder, "snapshots"));

    /// <summary>The snapshot of a cache entry: the one that refs/main names, else the only one there is.</summary>
    /// <exception cref="InvalidDataException">There is none, or no way to choose.</exception>
    internal static string Snapshot(string entry)
    {
        if (MainRevision(entry) is string revision)
        {
            string folder = Path.Combine(entry, "snapshots", revision);
            return Directory.Exists(folder) ? folder
                : throw BadFile.At(entry, $"refs/main names the revision {revision}, but there is no snapshots/{revision}: the download " +
                "is incomplete.");
        }
        string[] snapshots = Directory.GetDirectories(Path.Combine(entry, "snapshots"));
        return snapshots.Length == 1 ? snapshots[0]
            : throw BadFile.At(entry, $"there is no refs/main, and {snapshots.Length} snapshots to choose from; name one of the folders " +
            "in snapshots/.");
    }

    /// <summary>Whether a text may be the name of a snapshot's folder.</summary>
    internal static bool IsCommit(string text) => Revision().IsMatch(text);

    private static string? MainRevision(string entry)
    {
        string main = Path.Combine(entry, "refs", "main");
        if (!RawFile.IsThere(main))
            return null;
        string revision = System.Text.Encoding.UTF8.GetString(RawFile.ReadAll(main, 1024)).Trim();
        return IsCommit(revision) ? revision
            : throw BadFile.At(main, $"this names the revision {BadFile.Quote(revision)}, which is not one.");
    }

    [GeneratedRegex(@"\A[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}\z")]
    private static partial Regex HubId();

    [GeneratedRegex(@"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\z")]
    private static partial Regex Revision();
}
