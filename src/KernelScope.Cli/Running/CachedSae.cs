using KernelScope.Files;
using KernelScope.Hub.Catalog;

namespace KernelScope.Cli;

/// <summary>Finds the file of an SAE that is given by a name of the catalogue.</summary>
internal static class CachedSae
{
    /// <summary>The path in the hub's cache.</summary>
    /// <exception cref="WorkException">There is no such name, or the file is not in the cache; the message says where it was looked for and what fetches it.</exception>
    public static string Find(string name)
    {
        if (!ReleaseCatalog.TryParse(name, out ReleasedSae? sae))
            throw new WorkException($"{name}: there is no such SAE, neither a file nor a folder nor one of the demo's " +
                $"({string.Join(", ", Demo.SaeNames)}){Near(name)}.");
        if (HubCache.FindFile(sae.Repository, sae.File, Environment.GetEnvironmentVariable) is string path)
            return path;
        string places = string.Join(", ", HubCache.Roots(Environment.GetEnvironmentVariable));
        string doubt = sae.IsListed ? "" : " (it is not in the catalogue, which may be incomplete; near " +
            $"it: {string.Join(", ", ReleaseCatalog.Near(name))})";
        throw new WorkException($"{name}: it is not in the hub's cache; looked for {sae.Repository}, {sae.File} in {places}; " +
            $"'kernelscope pull {sae.Name}' fetches it{doubt}.");
    }

    // A path with a slip in it is like no name, and a list of names would be noise.
    private static string Near(string name) => name.Contains("gemma", StringComparison.OrdinalIgnoreCase)
        ? $"; the catalogue has no such name either, near it are {string.Join(", ", ReleaseCatalog.Near(name))}"
        : "";
}
