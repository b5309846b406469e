using System.Globalization;
using System.Text;
using KernelScope.Hub.Catalog;

namespace KernelScope.Cli;

/// <summary>What clients call an SAE: Neuronpedia's id where it has one, else the layer and the folder's name.</summary>
internal static class SourceName
{
    private const string CacheEntry = "models--";

    public static string Of(SaeFiles files)
    {
        if (Demo.SaeNames.Contains(files.Name))
            return OfDemo(files.Name);
        if (Released(files) is ReleasedSae sae && sae.Layer >= 0)
        {
            return sae.NeuronpediaId is string page ? page[(page.IndexOf('/', StringComparison.Ordinal) + 1)..]
                : string.Create(
                    CultureInfo.InvariantCulture, $"{sae.Layer}-gemmascope-{sae.Release.Split('-')[^1]}-{sae.WidthName}__l0-{sae.L0}");
        }

        return string.Create(CultureInfo.InvariantCulture, $"{files.Site.Layer}-{Folder(files.Checkpoint.Path)}");
    }

    /// <summary>Its page on Neuronpedia, <c>gemma-2-2b/20-gemmascope-res-16k</c>; null if it has none.</summary>
    public static string? PageOf(SaeFiles files) => Released(files)?.NeuronpediaId;

    /// <summary><c>res.3.2k.l0_19</c> is <c>3-demo-res-2k__l0-19</c>.</summary>
    public static string OfDemo(string name)
    {
        string[] parts = name.Split('.');
        return $"{parts[1]}-demo-{parts[0]}-{parts[2]}__{parts[3].Replace('_', '-')}";
    }

    private static ReleasedSae? Released(SaeFiles files)
    {
        if (ReleaseCatalog.TryParse(files.Name, out ReleasedSae? named))
            return named;
        string[] parts = files.Checkpoint.Path.Split('/', '\\');
        int entry = Array.FindIndex(parts, p => p.StartsWith(CacheEntry, StringComparison.Ordinal));
        // models--owner--name/snapshots/revision/…
        if (entry < 0 || parts.Length <= entry + 3)
            return null;
        string repository = parts[entry][CacheEntry.Length..].Replace("--", "/", StringComparison.Ordinal);
        return ReleaseCatalog.TryParse($"{repository}/{string.Join('/', parts[(entry + 3)..])}", out ReleasedSae? cached) ? cached : null;
    }

    private static string Folder(string path)
    {
        string name = File.Exists(path) && Path.GetFileNameWithoutExtension(path) is "params" or "sae_weights" or "sae"
            ? Path.GetFileName(Path.GetDirectoryName(Path.GetFullPath(path))) ?? "sae"
            : Path.GetFileNameWithoutExtension(path.TrimEnd('/', '\\'));
        var clean = new StringBuilder();
        foreach (char c in name.ToLowerInvariant())
            clean.Append(char.IsAsciiLetterOrDigit(c) ? c : '-');
        return clean.Length == 0 ? "sae" : clean.ToString();
    }
}
