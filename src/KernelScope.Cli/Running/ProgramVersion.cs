using System.Reflection;

namespace KernelScope.Cli;

/// <summary>Which program this is.</summary>
internal static class ProgramVersion
{
    /// <summary>The version, without what follows a plus.</summary>
    public static string Text { get; } =
        typeof(ProgramVersion).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0]
        ?? "";
}
