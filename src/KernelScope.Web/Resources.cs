namespace KernelScope.Web;

/// <summary>Files that this assembly carries.</summary>
internal static class Resources
{
    public static IEnumerable<string> Names => typeof(Resources).Assembly.GetManifestResourceNames();

    public static byte[] Read(string name)
    {
        using Stream stream = typeof(Resources).Assembly.GetManifestResourceStream(name)
            ?? throw new InvalidOperationException($"The assembly KernelScope.Web lacks its resource {name}.");
        byte[] bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }
}
