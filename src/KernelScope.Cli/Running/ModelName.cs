using KernelScope.Files;
using KernelScope.Hub;

namespace KernelScope.Cli;

/// <summary>What <c>--model</c> names, when it is not a folder that is there.</summary>
internal static class ModelName
{
    /// <summary>What <see cref="ModelFolder.Resolve(string)"/> finds: the name itself, or for a short name of a published model that is in the cache its whole one.</summary>
    /// <exception cref="WorkException">There is no such model here; the message gives the command that fetches it.</exception>
    public static string Resolve(string name)
    {
        if (Path.Exists(name) || RawFile.IsThere(name))
            return name;
        if (ReleasedModel.Find(name) is ReleasedModel released)
            return released.IsCached ? released.Name : throw new WorkException($"{name}: this model is not on this machine, neither as a folder nor in the hub's cache ({Places}); {released.HowToGet}.");
        if (HubCache.EntryName(name) is string entry && HubCache.Roots(Environment.GetEnvironmentVariable).Any(root => Directory.Exists(Path.Combine(root, entry))))
            return name;
        string? near = name.Contains("gemma", StringComparison.OrdinalIgnoreCase) ? Spelling.Nearest(name, ReleasedModel.All.SelectMany(m => new[] { m.Name, m.Name[(m.Name.IndexOf('/', StringComparison.Ordinal) + 1)..] })) : null;
        string advice = near is not null ? $"; near it is {ReleasedModel.Find(near)!.Name}: {ReleasedModel.Find(near)!.HowToGet}"
            : HubClient.IsRepository(name) ? $"; if it is a model of the hub, 'kernelscope pull {name}' fetches it" : "";
        throw new WorkException($"{name}: there is no such model; looked for the folder {name}{(HubCache.EntryName(name) is null ? "" : $" and in the hub's cache ({Places})")}{advice}.");
    }

    private static string Places => string.Join(", ", HubCache.Roots(Environment.GetEnvironmentVariable));
}
