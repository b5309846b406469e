using System.Security.Cryptography;
using System.Text;
using KernelScope.Cpu.Panels;
using KernelScope.Files;
using KernelScope.Model;

namespace KernelScope.Cpu.Packing;

/// <summary>
/// Where a model's packed weights are kept: <c>kernelscope.panels</c> beside the weights, else one file for each model folder in the user's cache.
/// Weights that were rounded to bfloat16 have names of their own, which end in <c>.bf16.panels</c>.
/// </summary>
/// <remarks>Any number of threads may call it.</remarks>
public static class PanelCache
{
    private const string Name = "kernelscope";

    /// <summary>The file beside a model's weights.</summary>
    /// <param name="model">The model.</param>
    /// <param name="rounded">Whether that of rounded weights.</param>
    public static string BesidePath(Gemma2Checkpoint model, bool rounded = false)
    {
        ArgumentNullException.ThrowIfNull(model);
        return Path.Combine(model.Folder.Path, Name + Ending(rounded));
    }

    /// <summary>
    /// The file in the cache: XDG_CACHE_HOME, else ~/Library/Caches on macOS, the local application data on Windows, ~/.cache elsewhere; then <c>kernelscope/panels/</c>, and the folder's name with a hash of its path.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="environment">A variable's name to its value, null if it is not set; HOME is where ~ is.</param>
    /// <param name="rounded">Whether that of rounded weights.</param>
    public static string CachePath(Gemma2Checkpoint model, Func<string, string?> environment, bool rounded = false)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(environment);
        // Weights that lie in the program itself have a name that is not a path: it is the same wherever the program runs.
        string folder = Directory.Exists(model.Folder.Path) ? Path.TrimEndingDirectorySeparator(Path.GetFullPath(model.Folder.Path))
            : model.Folder.Path;
        string hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(folder)))[..16];
        string name = string.Concat(Path.GetFileName(folder).Where(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_').Take(60));
        return Path.Combine(FolderPath(environment), $"{name}-{hash}{Ending(rounded)}");
    }

    /// <summary>The file that there is: beside the weights, else in the cache; null if there is none. Nothing of it is looked at.</summary>
    /// <param name="model">The model.</param>
    /// <param name="environment">As in <see cref="CachePath"/>.</param>
    /// <param name="rounded">Whether that of rounded weights.</param>
    public static string? Find(Gemma2Checkpoint model, Func<string, string?> environment, bool rounded = false)
    {
        string beside = BesidePath(model, rounded);
        if (RawFile.IsThere(beside))
            return beside;
        string cached = CachePath(model, environment, rounded);
        return RawFile.IsThere(cached) ? cached : null;
    }

    /// <summary>The folder of the cache that holds all of them.</summary>
    internal static string FolderPath(Func<string, string?> environment) => Path.Combine(Root(environment), Name, "panels");

    private static string Ending(bool rounded) => (rounded ? ".bf16" : "") + PanelFile.Extension;

    private static string Root(Func<string, string?> environment)
    {
        if (environment("XDG_CACHE_HOME") is { Length: > 0 } cache)
            return HubCache.Expand(cache, environment);
        if (OperatingSystem.IsWindows())
            return Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData);
        return HubCache.Expand(OperatingSystem.IsMacOS() ? "~/Library/Caches" : "~/.cache", environment);
    }
}
