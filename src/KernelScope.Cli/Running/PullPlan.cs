using KernelScope.Hub;
using KernelScope.Hub.Catalog;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary>What a name given to <c>pull</c> asks for.</summary>
/// <param name="Repository">The repository.</param>
/// <param name="Inside">A file or a folder in it; null for a model.</param>
internal sealed record PullPlan(string Repository, string? Inside)
{
    private static readonly string[] FileEndings = [".npz", ".safetensors", ".json", ".model"];

    /// <summary>Reads a name.</summary>
    /// <exception cref="WorkException">It is none.</exception>
    public static PullPlan For(string name)
    {
        if (ReleaseCatalog.TryParse(name, out ReleasedSae? sae))
            return new PullPlan(sae.Repository, sae.File);
        string[] parts = name.TrimEnd('/').Split('/', 3);
        string repository = parts.Length > 1 ? $"{parts[0]}/{parts[1]}" : "";
        if (!HubClient.IsRepository(repository))
            throw new WorkException($"{name}: this names neither a model (owner/name) nor an SAE (a name that 'kernelscope catalog' " +
                $"lists){Near(name)}.");
        // A release where an owner should be is a slip in an SAE's name.
        if (ReleaseCatalog.All.Any(s => s.Release == parts[0]))
            throw new WorkException($"{name}: the catalogue has no such SAE{Near(name)}.");
        if (parts.Length == 3)
            return HubClient.IsPath(parts[2]) ? new PullPlan(repository, parts[2])
                : throw new WorkException($"{name}: '{parts[2]}' is not a path inside a repository.");
        if (ReleaseCatalog.All.FirstOrDefault(s => s.Repository == repository) is ReleasedSae one)
            throw new WorkException($"{name}: this repository holds {ReleaseCatalog.All.Count(s => s.Repository == repository)} SAEs; " +
                $"name one of them, such as {one.Name} ('kernelscope catalog {one.Release}' lists them).");
        return new PullPlan(repository, null);
    }

    /// <summary>Downloads it.</summary>
    public async Task<HubSnapshot> RunAsync(HubClient client, string revision, IProgress<HubProgress> progress,
        CancellationToken cancellation)
    {
        if (Inside is null)
            return await client.PullModelAsync(Repository, revision, progress, cancellation).ConfigureAwait(false);
        if (FileEndings.Any(e => Inside.EndsWith(e, StringComparison.Ordinal)))
            return await client.PullAsync(Repository, revision, [Inside], progress, cancellation).ConfigureAwait(false);
        HubListing listing = await client.ListAsync(Repository, revision, cancellation).ConfigureAwait(false);
        return await client.PullAsync(Repository, revision, FilesIn(listing, Inside), progress, cancellation).ConfigureAwait(false);
    }

    /// <summary>What --model or --sae takes: the snapshot, the folder, or the file.</summary>
    public string PathIn(HubSnapshot snapshot) => Inside is null ? snapshot.Path : snapshot.Files is [HubFile one] ? one.Path
        : Path.Combine(snapshot.Path, Inside);

    // What has nothing to do with Gemma is like none of them.
    private static string Near(string name) => !name.Contains("gemma", StringComparison.OrdinalIgnoreCase) ? ""
        : ReleaseCatalog.All.Any(s => s.Model == name) ? $"; near it: {ReleasedSae.Owner}/{name}"
        : $"; near it: {string.Join(", ", ReleaseCatalog.Near(name))}";

    // A Gemma Scope SAE is one file, a SAELens SAE two.
    private string[] FilesIn(HubListing listing, string folder)
    {
        string[] Present(params string[] names) => [.. names.Select(n => $"{folder}/{n}").Where(listing.Files.Contains)];
        string[] parameters = Present(SaeCheckpoint.ParamsName), saeLens = Present(SaeCheckpoint.ConfigName, SaeCheckpoint.WeightsName);
        return parameters.Length == 1 ? parameters
            : saeLens.Length == 2 ? saeLens
            : throw new WorkException($"{Repository}/{folder}: the repository has neither a {SaeCheckpoint.ParamsName} nor " +
            $"a {SaeCheckpoint.ConfigName} with {SaeCheckpoint.WeightsName} there.");
    }
}
