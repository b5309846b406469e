using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>serve --export</c>: the demo's pages as files; what is in them is shown in a browser by KernelScope.Web.Tests.</summary>
public sealed class ServeExportTests
{
    [Fact]
    public void A_folder_is_written_and_replaced_but_no_other_one()
    {
        using var folder = new TempFolder();
        string copy = folder.At("copy");
        for (int n = 0; n < 2; n++)
        {
            JsonElement result = Program.Json("serve", "--export", copy);
            Assert.Equal("3-demo-res-2k__l0-19", result.GetProperty("source").GetString());
            Assert.True(result.GetProperty("features").GetInt32() > 300);
            Assert.True(File.Exists(Path.Combine(copy, "index.html")));
        }

        Directory.CreateDirectory(folder.At("mine"));
        folder.Write("mine/notes.txt", "mine"u8);
        Program.Run("serve", "--export", folder.At("mine")).AssertFailed(1, "holds other files");
        Program.Run("serve", "--export", copy, "--urls", "http://127.0.0.1:0").AssertFailed(2, "--urls does nothing");
        Program.Run("serve", "--export", copy, "--sae", "res.1.1k.l0_26").AssertFailed(2, "--sae does nothing");
        Assert.Equal(2, Directory.EnumerateDirectories(folder.At(".")).Count());
    }
}
