; The installer of the worker: for one user, without an administrator.
;   /S            asks nothing
;   /AUTOSTART=1  starts the worker when the user signs in, /AUTOSTART=0 does not; without it, as it was before
;   /D=FOLDER     installs there; has to be the last
; The uninstaller with /S keeps the user's settings; with /S /DATA=1 it removes them as well.

; The installer is 64-bit like the program, so that it also runs on systems without 32-bit support.
Target amd64-unicode
ManifestSupportedOS Win10
ManifestDPIAware true
ManifestLongPathAware true
SetCompressor /SOLID lzma
SetCompressorDictSize 64
SetDateSave off
RequestExecutionLevel user

!include "MUI2.nsh"
!include "FileFunc.nsh"
!include "LogicLib.nsh"
!include "x64.nsh"
!include "WinVer.nsh"

!define TITLE "ChaarFM Worker"
!define UNINSTALL "Software\Microsoft\Windows\CurrentVersion\Uninstall\ChaarFM Worker"
; Windows lists this entry under Settings, Apps, Startup, where the user can switch it off.
!define AUTOSTART "Software\Microsoft\Windows\CurrentVersion\Run"
!define AUTOSTART_SWITCH "Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run"

Name "${TITLE}"
OutFile "@SETUP@"
InstallDir "$LOCALAPPDATA\Programs\ChaarFM Worker"
InstallDirRegKey HKCU "${UNINSTALL}" "InstallLocation"
BrandingText "${TITLE} @VERSION@"
VIProductVersion "@DOTTED@"
VIAddVersionKey "ProductName" "${TITLE}"
VIAddVersionKey "ProductVersion" "@VERSION@"
VIAddVersionKey "FileVersion" "@VERSION@"
VIAddVersionKey "FileDescription" "${TITLE}, installer"
VIAddVersionKey "CompanyName" "ChaarFM"
VIAddVersionKey "LegalCopyright" "MIT or Apache-2.0, the ChaarFM developers"

!define MUI_ICON "program.ico"
!define MUI_UNICON "program.ico"
!define MUI_COMPONENTSPAGE_NODESC
!define MUI_FINISHPAGE_RUN "$INSTDIR\chaarfm-worker.exe"
!define MUI_FINISHPAGE_RUN_TEXT "Start ${TITLE}"
!insertmacro MUI_PAGE_COMPONENTS
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"

; A running program cannot be replaced or removed. Its unfinished tracks go back to the coordinator's queue.
!macro EndWorker
  nsExec::Exec 'taskkill /F /IM chaarfm-worker.exe'
  Pop $0
!macroend

Section "${TITLE}" PROGRAM
  SectionIn RO
  !insertmacro EndWorker
  SetOutPath "$INSTDIR"
  File "chaarfm-worker.exe"
  File "LICENSE-MIT.txt"
  File "LICENSE-APACHE.txt"
  File "THIRD-PARTY-LICENCES.txt"
  WriteUninstaller "$INSTDIR\uninstall.exe"

  ; Lets chaarfm://… links in a browser open the worker.
  WriteRegStr HKCU "Software\Classes\chaarfm" "" "URL:ChaarFM join link"
  WriteRegStr HKCU "Software\Classes\chaarfm" "URL Protocol" ""
  WriteRegStr HKCU "Software\Classes\chaarfm\DefaultIcon" "" "$INSTDIR\chaarfm-worker.exe,0"
  WriteRegStr HKCU "Software\Classes\chaarfm\shell\open\command" "" '"$INSTDIR\chaarfm-worker.exe" "%1"'

  WriteRegStr HKCU "${UNINSTALL}" "DisplayName" "${TITLE}"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayVersion" "@VERSION@"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayIcon" "$INSTDIR\chaarfm-worker.exe,0"
  WriteRegStr HKCU "${UNINSTALL}" "Publisher" "ChaarFM"
  WriteRegStr HKCU "${UNINSTALL}" "URLInfoAbout" "@REPOSITORY@"
  WriteRegStr HKCU "${UNINSTALL}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL}" "NoRepair" 1
  ${GetSize} "$INSTDIR" "/S=0K" $0 $1 $2
  IntFmt $0 "0x%08X" $0
  WriteRegDWORD HKCU "${UNINSTALL}" "EstimatedSize" "$0"
SectionEnd

Section "Start menu entry" MENU
  CreateShortcut "$SMPROGRAMS\${TITLE}.lnk" "$INSTDIR\chaarfm-worker.exe"
SectionEnd

Section /o "Start when I sign in (Windows' settings can change it)" AUTO
  WriteRegStr HKCU "${AUTOSTART}" "${TITLE}" '"$INSTDIR\chaarfm-worker.exe"'
SectionEnd

Function .onInit
  ${IfNot} ${RunningX64}
    MessageBox MB_ICONSTOP "${TITLE} needs a 64-bit Windows." /SD IDOK
    SetErrorLevel 2
    Quit
  ${EndIf}
  ; An update keeps the user's choice unless an option says otherwise.
  ReadRegStr $0 HKCU "${AUTOSTART}" "${TITLE}"
  ${If} $0 != ""
    !insertmacro SelectSection ${AUTO}
  ${EndIf}
  ${GetParameters} $1
  ClearErrors
  ${GetOptions} $1 "/AUTOSTART=" $2
  ${IfNot} ${Errors}
    ${If} $2 == "1"
      !insertmacro SelectSection ${AUTO}
    ${Else}
      !insertmacro UnselectSection ${AUTO}
    ${EndIf}
  ${EndIf}
FunctionEnd

Function .onInstSuccess
  ${IfNot} ${SectionIsSelected} ${AUTO}
    DeleteRegValue HKCU "${AUTOSTART}" "${TITLE}"
    DeleteRegValue HKCU "${AUTOSTART_SWITCH}" "${TITLE}"
  ${EndIf}
  ${IfNot} ${SectionIsSelected} ${MENU}
    Delete "$SMPROGRAMS\${TITLE}.lnk"
  ${EndIf}
FunctionEnd

Section "Uninstall"
  !insertmacro EndWorker
  Delete "$INSTDIR\chaarfm-worker.exe"
  ; Left by an update.
  Delete "$INSTDIR\chaarfm-worker*.exe"
  Delete "$INSTDIR\LICENSE-MIT.txt"
  Delete "$INSTDIR\LICENSE-APACHE.txt"
  Delete "$INSTDIR\THIRD-PARTY-LICENCES.txt"
  Delete "$INSTDIR\uninstall.exe"
  RMDir "$INSTDIR"
  Delete "$SMPROGRAMS\${TITLE}.lnk"
  DeleteRegValue HKCU "${AUTOSTART}" "${TITLE}"
  DeleteRegValue HKCU "${AUTOSTART_SWITCH}" "${TITLE}"
  DeleteRegKey HKCU "Software\Classes\chaarfm"
  DeleteRegKey HKCU "${UNINSTALL}"

  ${GetParameters} $1
  ClearErrors
  ${GetOptions} $1 "/DATA=" $2
  ${If} ${Errors}
    StrCpy $2 0
    MessageBox MB_YESNO|MB_ICONQUESTION|MB_DEFBUTTON2 \
      "Remove your settings as well: the coordinators you joined, and what was measured of this computer?" \
      /SD IDNO IDNO keep
    StrCpy $2 1
    keep:
  ${EndIf}
  ${If} $2 == 1
    RMDir /r "$LOCALAPPDATA\chaarfm-worker"
    RMDir /r "$APPDATA\chaarfm-worker"
  ${EndIf}
SectionEnd
